"""How feature sets, their ground truth and detections lie on disk: every form of them is read as the same records."""
