"""Programs about data sets: check, convert, prepare, and the synthetic demo set."""
