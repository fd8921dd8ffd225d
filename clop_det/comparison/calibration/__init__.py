"""Finished comparisons as a calibration of `clop-det rank`."""
