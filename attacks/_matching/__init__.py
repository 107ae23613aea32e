"""Gradient matching: what is compared, and how it descends."""
