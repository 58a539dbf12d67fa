"""Figures from records: series, fitted lines, verdicts on claims, and pictures."""
