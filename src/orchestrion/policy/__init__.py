"""Policies: pure functions that decide who is asked next and when an answer is good enough."""

from orchestrion.policy import combinators, learned  # every kind is registered wherever policies are loaded

__all__ = ["combinators", "learned"]
