"""Checks of a data set: its names, times and features, compared within the set."""
