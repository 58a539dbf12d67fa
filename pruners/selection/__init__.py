"""From scores to masks: data sources, layer budgets, choice of weights, pruning rounds."""
