"""Where the record of a run is, how it is read, and what it says of its origin."""
