"""Scores of weights: SNIP, GraSP, SynFlow, magnitude, OBD."""
