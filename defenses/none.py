"""No defense on the shared update."""

from typing import ClassVar

from privbench.defense import Defense


class NoDefense(Defense):
    """Nothing: the update is shared as it is."""

    answered_by: ClassVar[tuple[str, ...]] = ("auto", "pe_ls")
