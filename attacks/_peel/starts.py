"""Where the hunt starts: tokens of plain and of rough patches, and mixtures of tokens found."""

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from privbench.attacks._peel.gather import Places
from privbench.attacks._peel.peeling import standard
from privbench.vit import ViT

HUE, TILT = 0.3, 0.25
"""Of plain patches, in standard deviations of a pixel; set by reason, as the numbers below."""
POWER = 1.5
"""Natural pictures have amplitudes that fall with about this power of frequency in a patch."""
PICTURES = 16
"""Whose prefix tokens are tried, too."""
MIXED, STRAY = 0.5, 0.3
"""Weight of the second token in a mixture, and noise on it."""


class Starts:
    """Draws tokens as the norm before the MLP sees them."""

    def __init__(self, vit: ViT, where: Places, rng: Generator) -> None:
        self.vit, self.where, self.rng = vit, where, rng
        self.rows = where.rows[where.prefix :]
        self.added = self._picture()[1][where.prefix :]
        """What attention adds in a picture of plain patches."""
        side = vit.patch
        frequency = torch.fft.fftfreq(side, dtype=torch.float64, device=self.rows.device)
        size = frequency.square()[:, None] + frequency.square() + (0.5 / side) ** 2
        self.fall = size ** (-POWER / 2)
        self.fall /= self.fall.square().mean().sqrt()

    def draw(self, count: int, found: Float[Tensor, "k d"]) -> Float[Tensor, "s d"]:
        """Draw so many; every second one a mixture, as soon as there is something to mix."""
        patches = self._plain(count)
        patches[::4] = self._rough(len(patches[::4]))
        at, other = (self._pick(len(x), count) for x in (self.rows, self.added))
        added = self.added[other] * (1 + STRAY * self._noise(count, 1))
        tokens = standard(patches @ self.vit.stem.weight.T + self.rows[at] + added)
        before = self.where.prefix
        for first in range(0, min(count, PICTURES * before), max(1, before)):
            entered, given = self._picture()
            own = standard((entered + given)[:before])
            tokens[first : first + before] = own[: count - first]
        if len(found):
            half = len(tokens[1::2])
            one, two = (found[self._pick(len(found), half)] for _ in range(2))
            tokens[1::2] = standard(one + MIXED * two + STRAY * self._noise(*one.shape))
        return tokens

    def _picture(self) -> tuple[Float[Tensor, "s d"], Float[Tensor, "s d"]]:
        """Tokens of a picture of plain patches, and what attention adds to them."""
        block = self.vit.block(0)
        patches = self._plain(len(self.rows)) @ self.vit.stem.weight.T + self.rows
        entered = torch.cat([self.where.rows[: self.where.prefix], patches])
        return entered, block.proj(block.heads(block.norm1(entered)[None])[0])

    def _plain(self, count: int) -> Float[Tensor, "s p"]:
        """Patches of nearly one color, brighter to some side."""
        gray, hue, slope = (self._noise(count, k, 1, 1) for k in (1, 3, 2))
        ramp = torch.linspace(-1, 1, self.vit.patch).to(gray)
        tilt = slope[:, :1] * ramp + slope[:, 1:] * ramp[:, None]
        return (gray + HUE * hue + TILT * tilt).flatten(1)

    def _rough(self, count: int) -> Float[Tensor, "s p"]:
        """Patches with the spectrum of natural pictures, of any contrast."""
        side = self.vit.patch
        light, color = (
            torch.fft.ifft2(torch.fft.fft2(self._noise(count, k, side, side)) * self.fall).real
            for k in (1, 3)
        )
        contrast = torch.exp(0.7 * self._noise(count, 1, 1, 1) - 0.3)
        ground = self._noise(count, 1, 1, 1) + HUE * self._noise(count, 3, 1, 1)
        return ((light + HUE * color) * contrast + ground).flatten(1)

    def _pick(self, among: int, count: int) -> Tensor:
        return torch.randint(among, (count,), generator=self.rng).to(self.rows.device)

    def _noise(self, *shape: int) -> Tensor:
        drawn = torch.randn(shape, generator=self.rng, dtype=torch.float64)
        return drawn.to(self.where.rows.device)
