"""Records: what came of a case, and where it is kept."""
