"""Measurements of speed and memory, each against a rival or a limit in the same run."""
