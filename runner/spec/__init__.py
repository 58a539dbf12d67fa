"""What is run, frozen: runs, stages, recipes, their identity, durations and random streams."""
