"""Closed forms: what linear algebra alone tells."""
