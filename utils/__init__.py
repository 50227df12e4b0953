"""Named building blocks: one module per idea, each usable on its own."""
