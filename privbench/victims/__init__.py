"""Victims: presets, weights, and what they are built from."""
