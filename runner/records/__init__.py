"""Finding, reading and packing the records of runs, and their provenance."""
