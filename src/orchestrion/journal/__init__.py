"""The journal: the durable memory of runs."""
