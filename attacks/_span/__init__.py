"""Token equations, and the search for their roots."""
