"""The matrix of runs (initialisation x labels x seed x settings): plan, launch, statistics, report."""
