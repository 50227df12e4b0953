"""What is wrong with a data set: names, times and features, judged against the set itself."""
