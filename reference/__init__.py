"""The method written down plainly: the best introduction to it, and what the fast code is held to."""
