"""The page that a run ends with, and the pictures of single videos: what a model does, to look at."""
