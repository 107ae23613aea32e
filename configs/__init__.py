"""Presets: victims and suites."""
