"""Training by several processes at once: torchrun --nproc_per_node=N main.py ... (docs/scale.md)."""
