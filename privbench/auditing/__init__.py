"""Audits of one update: what it gives away, told without the truth."""
