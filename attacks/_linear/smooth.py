"""Smoothness of pictures, and least squares under it, on patches.

The prior is Student's t on differences of neighboring pixels, inside patches and across their
seams: its iteratively reweighted quadratic form counts an edge once and for little.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from privbench.patches import cut, join

Patches = Float[Tensor, "n p"]
FREEDOM = 1.0
"""Degrees of freedom of Student's t; one is Cauchy's distribution."""
FLOOR, START = 0.05, 0.4
"""Smallest and first spread of a difference, in units of the pixels' standard deviation; set by
reason."""
GROUND = 1.0
"""Weight of the mean color where brightness is open: the pixels' own variance is one."""
FLAT = 1e-12
"""Curvature, relative to the largest met, below which a form has none and a step would be noise;
set by reason, well above float64's rounding."""


class Smoothness:
    """Weights on a picture's pixel differences, as a quadratic form K over its n x p patches."""

    def __init__(self, patches: Patches, side: int) -> None:
        self.side = side
        down, across = self._differences(patches)
        self.spread = START
        self.down = torch.full_like(down, START**-2)
        self.across = torch.full_like(across, START**-2)
        # Sines solve a patch whose neighbors are fixed; they are nearly eigenvectors of K.
        one = torch.ones(side - 1, dtype=patches.dtype, device=patches.device)
        chain = 2 * torch.eye(side, dtype=patches.dtype, device=patches.device)
        values, self.waves = torch.linalg.eigh(chain - torch.diag(one, 1) - torch.diag(one, -1))
        self.stiffness = (values[:, None] + values).flatten().repeat(patches.shape[1] // side**2)

    def _differences(self, patches: Patches) -> tuple[Tensor, Tensor]:
        picture = join(patches[None], self.side)
        return picture.diff(dim=2), picture.diff(dim=3)

    def fit(self, patches: Patches) -> None:
        """Set the spread and the weights to what a picture shows (expectation-maximization)."""
        down, across = self._differences(patches)
        for _ in range(10):
            scale = FREEDOM * self.spread**2
            self.down = (FREEDOM + 1) / (scale + down.square())
            self.across = (FREEDOM + 1) / (scale + across.square())
            parts = (self.down * down.square()).sum() + (self.across * across.square()).sum()
            mean = float(parts) / (down.numel() + across.numel())
            self.spread = max(FLOOR, self.spread * mean**0.5)

    def form(self, patches: Patches) -> Patches:
        """K times the patches."""
        down, across = self._differences(patches)
        down, across = self.down * down, self.across * across
        rows = pad(down, (0, 0, 1, 0)) - pad(down, (0, 0, 0, 1))
        return cut(rows + pad(across, (1, 0)) - pad(across, (0, 1)), self.side)[0]

    def diagonal(self) -> Float[Tensor, " p"]:
        """Approximate eigenvalues of K, in the basis of `to_waves`."""
        return self.stiffness * (self.down.mean() + self.across.mean()) / 2

    def to_waves(self, patches: Patches) -> Patches:
        """Sine transform of each patch and channel."""
        blocks = patches.unflatten(1, (-1, self.side, self.side))
        return (self.waves.T @ blocks @ self.waves).flatten(1)

    def from_waves(self, patches: Patches) -> Patches:
        """Inverse of `to_waves`."""
        blocks = patches.unflatten(1, (-1, self.side, self.side))
        return (self.waves @ blocks @ self.waves.T).flatten(1)


def conjugate_gradients(
    form: Callable[[Tensor], Tensor],
    wanted: Tensor,
    start: Tensor,
    precondition: Callable[[Tensor], Tensor],
    *,
    steps: int = 300,
    tolerance: float = 1e-5,
) -> Tensor:
    """Solve form(x) = wanted for a positive form, until the preconditioned residual is small.

    p: direction; r: residual; z: preconditioned residual (Nocedal and Wright, algorithm 5.3).
    """
    x, r = start, wanted - form(start)
    z = precondition(r)
    p, size = z, float((r * z).sum())
    enough = tolerance**2 * float((wanted * precondition(wanted)).sum())
    steepest = 0.0
    for _ in range(steps):
        if size <= enough:
            break
        image = form(p)
        curvature, length = float((p * image).sum()), float(p.square().sum())
        steepest = max(steepest, curvature / length)
        if curvature <= FLAT * steepest * length:
            break
        step = size / curvature
        x, r = x + step * p, r - step * image
        z = precondition(r)
        before, size = size, float((r * z).sum())
        p = z + (size / before) * p
    return x


def complete_rows(
    known: Patches, free: Float[Tensor, "n k"], side: int, rounds: int = 6
) -> Patches:
    """Add to the patches what free @ (anything) can, so that the picture becomes smoothest."""
    prior = Smoothness(known, side)
    added = known.new_zeros(free.shape[1], known.shape[1])
    for _ in range(rounds):
        prior.fit(known + free @ added)

        def precondition(r: Tensor, prior: Smoothness = prior) -> Tensor:
            return prior.from_waves(prior.to_waves(r) / prior.diagonal())

        added = conjugate_gradients(
            lambda z: free.T @ prior.form(free @ z),
            -free.T @ prior.form(known),
            added,
            precondition,
        )
    return known + free @ added


def complete_columns(
    known: Patches, free: Float[Tensor, "p k"], side: int, rounds: int = 6
) -> Patches:
    """Add to the patches what (anything) @ free.T can, so that the picture becomes smoothest."""
    prior = Smoothness(known, side)
    waves = prior.to_waves(free.T)  # k p
    added = known.new_zeros(len(known), free.shape[1])
    for turn in range(rounds):
        if turn:  # what is known alone is no picture yet
            prior.fit(known + added @ free.T)
        values, vectors = torch.linalg.eigh((waves * (prior.diagonal() + GROUND)) @ waves.T)

        def precondition(r: Tensor, values: Tensor = values, vectors: Tensor = vectors) -> Tensor:
            return r @ vectors / values @ vectors.T

        def form(z: Tensor, prior: Smoothness = prior) -> Tensor:
            return prior.form(z @ free.T) @ free + GROUND * z

        added = conjugate_gradients(form, -prior.form(known) @ free, added, precondition)
    return known + added @ free.T
