"""The report: one HTML page that leads from each printed number to its runs."""
