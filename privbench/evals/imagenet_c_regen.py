"""ImageNet-C made anew, its JPEG file included: another task than the released files."""

from typing import ClassVar

from privbench.evals._corrupted import Recipe
from privbench.evals._regenerated import Regenerated


class ImageNetCRegen(Regenerated):
    """Errors on clean validation pictures that are corrupted on the way, at 224 px."""

    recipe: ClassVar[Recipe] = "imagenet"
    suits: ClassVar[str] = "imagenet"
    quality: ClassVar[int | None] = 85
