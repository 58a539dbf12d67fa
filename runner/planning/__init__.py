"""Plans: the stages that runs need, those that are missing, and their cost."""
