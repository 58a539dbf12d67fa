"""What runs need, what is missing and what it costs, before anything is run."""
