"""From run folders to rows and statistics."""
