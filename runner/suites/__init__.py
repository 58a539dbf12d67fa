"""Configured tables and figures: typed YAML, cells, the runs behind each cell, verdicts."""
