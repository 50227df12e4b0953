"""Checking a data set: its names, times and features, judged against the set itself."""
