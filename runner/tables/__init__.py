"""Tables from records: entries, verdicts on claims, and pages in five formats."""
