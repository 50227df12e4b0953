"""The way from class sequences to action instances: scored proposals, then non-maximum suppression."""
