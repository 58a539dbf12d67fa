"""Computes runs: the store of stages, the stages, the training loop, evaluation, devices and processes."""
