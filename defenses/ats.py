"""Searched transformations of the pictures (Gao et al., CVPR 2021; their 50 operations)."""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Int, Int8
from PIL import Image, ImageEnhance, ImageOps
from torch import Generator, Tensor

from privbench.defense import Defense, Labels
from privbench.errors import BadSetting
from privbench.threat import Images, Randomness
from privbench.vit import ViT

OPERATIONS = (
    *("invert 7", "contrast 6", "rotate 2", "translateX 9", "sharpness 1"),
    *("sharpness 3", "shearY 2", "translateY 2", "autocontrast 5", "equalize 2"),
    *("shearY 5", "posterize 5", "color 3", "brightness 5", "sharpness 9"),
    *("brightness 9", "equalize 5", "equalize 1", "contrast 7", "sharpness 5"),
    *("color 5", "translateX 5", "equalize 7", "autocontrast 8", "translateY 3"),
    *("sharpness 6", "brightness 6", "color 8", "solarize 0", "invert 0"),
    *("equalize 0", "autocontrast 0", "equalize 8", "equalize 4", "color 5"),
    *("equalize 5", "autocontrast 4", "solarize 4", "brightness 3", "color 0"),
    *("solarize 1", "autocontrast 0", "translateY 3", "translateY 3", "autocontrast 1"),
    *("solarize 1", "equalize 5", "invert 0", "translateY 3", "autocontrast 1"),
)
"""What the numbers of a policy stand for, with levels of 0 to 9, as released. The probabilities
beside them are left out: the released code does not read them."""
TOP = 9
"""Highest level."""
TURN, SHEAR, SHIFT, CHANGE = 30.0, 0.3, 150 / 331, 0.5
"""At the top: degrees; pixels a column; share of the side; change of a factor of one."""

Picture = Image.Image
Operation = Callable[[Picture, float, int], Picture]
"""Of a picture, a level as a share of the top, and a sign."""


@dataclass(frozen=True)
class Chosen(Randomness):
    """Which row of a policy each picture goes through, and the sign of each operation in it."""

    row: Int[Tensor, " b"]
    signs: Int8[Tensor, "b most"]


class Transformations(Defense):
    """Automatic transformation search: pictures go through operations found to hide them."""

    paper: ClassVar[str] = "arXiv:2011.12505"
    draws: ClassVar[type[Randomness]] = Chosen
    answered_by: ClassVar[tuple[str, ...]] = ("auto", "pe_ls")
    policy: str = "3-1-7+43-18-18"
    """Rows of operations, of which each picture goes through one: the paper's hybrid policy."""

    def __post_init__(self) -> None:
        """Refuse what is no policy; raises BadSetting."""
        self.rows()

    def rows(self) -> list[list[int]]:
        """Return the policy's rows of numbers; raises BadSetting."""
        words = [row.split("-") for row in str(self.policy).split("+")]
        known = {str(number) for number in range(len(OPERATIONS))}
        for word in (word for row in words for word in row):
            if word not in known:
                raise BadSetting(
                    f"policy '{self.policy}' holds '{word}', and operations have numbers from 0 "
                    f"to {len(OPERATIONS) - 1}. Write rows such as 21-13-3+7-4-15."
                )
        return [[int(word) for word in row] for row in words]

    def draw(self, vit: ViT, batch: int, rng: Generator) -> Chosen:
        """Draw a row for each picture, and signs."""
        rows = self.rows()
        signs = torch.randint(2, (batch, max(map(len, rows))), generator=rng, dtype=torch.int8)
        return Chosen(torch.randint(len(rows), (batch,), generator=rng), 2 * signs - 1)

    def prepare(
        self, vit: ViT, images: Images, labels: Labels, randomness: Randomness | None
    ) -> tuple[Images, Labels]:
        """Transform 8-bit pictures, without a slope; without a draw they stay."""
        if not isinstance(randomness, Chosen):
            return images, labels
        rows, found = self.rows(), []
        for image, row, signs in zip(
            images, randomness.row.tolist(), randomness.signs.tolist(), strict=True
        ):
            pixels = (image.detach().clamp(0, 1) * 255).round().byte().permute(1, 2, 0)
            picture = Image.fromarray(pixels.cpu().numpy())
            for number, sign in zip(rows[row], signs, strict=False):
                name, level = OPERATIONS[number].split()
                picture = NAMED[name](picture, int(level) / TOP, sign)
            found.append(torch.from_numpy(np.array(picture)).permute(2, 0, 1).to(images) / 255)
        return torch.stack(found), labels


def _moved(across: float, down: float, shear: float = 0.0) -> Operation:
    def move(picture: Picture, level: float, sign: int) -> Picture:
        x, y = (sign * level * share * picture.width for share in (across, down))
        matrix = (1, 0, x, sign * level * shear, 1, y)
        how = Image.Resampling.BICUBIC if shear else Image.Resampling.NEAREST
        return picture.transform(picture.size, Image.Transform.AFFINE, matrix, how)

    return move


def _enhanced(kind: Callable[[Picture], ImageEnhance._Enhance]) -> Operation:
    return lambda picture, level, sign: kind(picture).enhance(1 + sign * level * CHANGE)


NAMED: dict[str, Operation] = {
    "translateX": _moved(SHIFT, 0.0),
    "translateY": _moved(0.0, SHIFT),
    "shearY": _moved(0.0, 0.0, SHEAR),
    "rotate": lambda picture, level, _: picture.rotate(TURN * level, fillcolor=(128,) * 3),
    "color": _enhanced(ImageEnhance.Color),
    "contrast": _enhanced(ImageEnhance.Contrast),
    "brightness": _enhanced(ImageEnhance.Brightness),
    "sharpness": _enhanced(ImageEnhance.Sharpness),
    "posterize": lambda picture, level, _: ImageOps.posterize(picture, round(8 - 4 * level)),
    "solarize": lambda picture, level, _: ImageOps.solarize(picture, ceil(256 * (1 - level))),
    "autocontrast": lambda picture, *_: ImageOps.autocontrast(picture),
    "equalize": lambda picture, *_: ImageOps.equalize(picture),
    "invert": lambda picture, *_: ImageOps.invert(picture),
}
