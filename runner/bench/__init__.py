"""Measurements of speed and memory, each compared with a rival or a limit in the same run."""
