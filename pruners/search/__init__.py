"""Searches for masks on fixed weights, and soft masks that train with the weights."""
