"""Comparisons with the bare minimum, printed as ratios of figures measured in the same run. Never part of the tests."""
