"""From a matrix to jobs with identities."""
