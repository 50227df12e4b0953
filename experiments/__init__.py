"""Many runs as one piece of work: seeds, sweeps and ablations, on local workers or on Slurm, and the table at their end."""
