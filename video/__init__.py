"""From a video file to features that the network takes, and on to its actions."""
