"""What surrounds a run: device, folder, checkpoints, evaluations so far, curves, interrupts and compiling."""
