"""Output of a run for users: progress, loggers, the final summary."""
