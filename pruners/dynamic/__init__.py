"""Sparse training: masks that change while the network trains."""
