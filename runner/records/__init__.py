"""Locating and reading the records of runs, and their provenance."""
