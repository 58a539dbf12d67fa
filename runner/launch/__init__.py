"""Running many jobs: the queue of one machine, its slots, and Slurm."""
