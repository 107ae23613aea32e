"""Scores of a reconstruction against what the client kept: one file per metric."""
