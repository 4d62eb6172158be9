"""Policies: pure functions that decide who is asked next and when an answer is good enough."""
