"""Statistics of verdicts: estimates from seeds or trials, evidence, multiplicity, power."""
