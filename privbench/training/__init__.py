"""Training of victims by one recipe."""
