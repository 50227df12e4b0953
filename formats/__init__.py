"""Feature sets, ground truth and detections on disk: every form of them is read as the same records."""
