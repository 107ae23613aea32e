"""Reads an update: labels, mask, noise, and the systems in it."""
