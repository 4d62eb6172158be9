"""Checks: questions about attempts, asked before an answer is accepted."""
