"""`make faults`: kills, damage, full disks, hostile files and invalid input, with verdicts."""
