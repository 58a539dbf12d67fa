"""Tables and figures as they are configured: typed YAML, cells, the runs behind each cell, verdicts."""
