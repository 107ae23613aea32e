"""Corruptions made on the way from clean pictures."""

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Generator

from privbench.evals._corrupted import CLEAN, Corrupted
from privbench.evaluation import Condition
from privbench.threat import Images

SEEDS = 2**62
"""Seeds to draw from, as many as a signed integer of 64 bits holds easily."""


class Regenerated(Corrupted):
    """Corruptions of our own making, seeded by picture, corruption and severity."""

    random: ClassVar[bool] = True
    quality: ClassVar[int | None] = None
    """Of the JPEG file that the pictures of the released set were saved as."""
    passes: ClassVar[tuple[str, ...]] = (*Corrupted.passes, "workers")
    workers: Annotated[int, Field(ge=0)] = 0
    """Processes that make pictures; 0 for this one alone."""

    def prepare(self, images: Images, condition: Condition, rngs: list[Generator]) -> Images:
        """Corrupt 8-bit pictures."""
        if condition["corruption"] == CLEAN:
            return images
        from privbench.corruptions import corrupt_all  # scipy and scikit-image load slowly

        pixels = (images * 255).round().byte().permute(0, 2, 3, 1).numpy()
        seeds = [int(torch.randint(SEEDS, (), generator=rng)) for rng in rngs]
        name, severity = str(condition["corruption"]), int(condition["severity"])
        made = corrupt_all(
            pixels,
            name,
            severity,
            seeds,
            self.recipe,
            quality=self.quality,
            workers=self.workers,
        )
        return torch.from_numpy(made).permute(0, 3, 1, 2).contiguous() / 255
