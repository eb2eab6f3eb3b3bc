"""Fairness: what the answer owes to the group that a text names or comes from."""
