"""Running jobs: launchers, progress, estimates."""
