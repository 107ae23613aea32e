"""CIFAR-10-C as released."""

from typing import ClassVar

from privbench.evals._corrupted import CLEAN, Corrupted, Recipe
from privbench.evaluation import Condition, Source


class CIFAR10C(Corrupted):
    """Errors on the released arrays."""

    recipe: ClassVar[Recipe] = "cifar10"
    brings: ClassVar[str] = "cifar10_c"

    def source(self, condition: Condition) -> Source | None:
        """Return the folder of a corruption and severity."""
        if condition["corruption"] == CLEAN:
            return Source("cifar10", optional=True)
        cell = {name: condition[name] for name in ("corruption", "severity")}
        return Source("cifar10_c", cell)
