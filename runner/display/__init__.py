"""What people see of a run: progress, loggers, the closing summary."""
