"""Studies of trained victims."""
