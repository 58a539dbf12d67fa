"""Frozen descriptions of runs, stages and recipes; identities, durations and random streams."""
