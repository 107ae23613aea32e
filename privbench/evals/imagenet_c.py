"""ImageNet-C as released: the authors ask for these files, not for others made likewise."""

from typing import ClassVar

from privbench.evals._corrupted import CLEAN, Corrupted, Recipe
from privbench.evaluation import Condition, Source


class ImageNetC(Corrupted):
    """Errors on the released pictures, 224 px, never resized."""

    recipe: ClassVar[Recipe] = "imagenet"
    brings: ClassVar[str] = "imagenet_c"

    def source(self, condition: Condition) -> Source | None:
        """Return the folder of a corruption and severity."""
        if condition["corruption"] == CLEAN:
            return Source("imagenet", optional=True)
        cell = {name: condition[name] for name in ("corruption", "severity")}
        return Source("imagenet_c", cell)
