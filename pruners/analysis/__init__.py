"""Measurements of finished masks for figures."""
