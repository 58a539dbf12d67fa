"""Execution of runs: stages and their cache, training loop, evaluation, devices and processes."""
