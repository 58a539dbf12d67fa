"""From records to tables: entries, metrics, and the pages in five formats."""
