"""What both trainers share: command line, run folder, seeds, precision, stop signal."""
