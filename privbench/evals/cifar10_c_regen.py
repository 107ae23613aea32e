"""CIFAR-10-C made anew: another task than the released arrays, though of the same formulas."""

from typing import ClassVar

from privbench.evals._corrupted import Recipe
from privbench.evals._regenerated import Regenerated


class CIFAR10CRegen(Regenerated):
    """Errors on clean test pictures that are corrupted on the way, at 32 px."""

    recipe: ClassVar[Recipe] = "cifar10"
    suits: ClassVar[str] = "cifar10"
