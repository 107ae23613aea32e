"""Bounds from above: what any attack could get at most."""
