"""Measures of features and labels; torch alone."""
