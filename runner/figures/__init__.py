"""From records to figures: series, fitted lines, claims and pictures."""
