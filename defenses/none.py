"""No defense on the shared update."""

from privbench.defense import Defense


class NoDefense(Defense):
    """Nothing: the update is shared as it is."""
