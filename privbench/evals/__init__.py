"""Evaluations of a victim's utility, one a file."""
