"""Questions to people, and their decisions."""
