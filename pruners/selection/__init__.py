"""From scores to masks: what data a score sees, how many weights a layer keeps, which, and in how many rounds."""
