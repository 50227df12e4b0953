"""Everything around a run: its device, its folder, its checkpoints, its curves."""
