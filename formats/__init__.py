"""Every way a data set or a result lies on disk, read as the same records."""
