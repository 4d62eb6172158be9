"""Evidence: recorded outcomes, written and read."""
