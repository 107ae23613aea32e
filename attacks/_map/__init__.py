"""The most probable picture: its posterior, and the way down to it."""
