"""Noise that differs from entry to entry (Chen, Gursoy and Lei, arXiv:2411.03746)."""

from collections.abc import Mapping
from typing import Annotated, ClassVar

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Generator, Tensor

from privbench.client_step import Gradient
from privbench.defense import Again, Defense, Outputs
from privbench.jacobian import Jacobian


class OptimalNoise(Defense):
    """Gaussian noise, more of it in entries that tell more of the picture, at `noise`'s budget.

    The paper's: a Bayesian Cramer-Rao bound on any attacker's squared error, which falls with the
    information tr(J^T S^-1 J) of a gradient with Jacobian J and noise of covariance S, and noise
    for each parameter that makes the bound highest at a given loss of utility. Ours, as its text
    was not available: that loss is the sum of all variances, S is diagonal, and then the least
    information takes variances in proportion to the norms of J's rows (Cauchy and Schwarz). A
    higher bound is no higher error: where noise is small, even noise may hide more.

    The variances depend on the picture, so they tell of it as well, which the bound leaves out.
    `privbench.jacobian` gives the norms at the client's own picture, before anything is shared.
    """

    paper: ClassVar[str] = "arXiv:2411.03746"
    answered_by: ClassVar[tuple[str, ...]] = ("auto", "pe_ls")
    sigma: Annotated[float, Field(ge=0)] = 0.01
    """Root of the mean variance of an entry, in each step's gradient."""
    relative: bool = True
    """Whether sigma is in units of the whole gradient's root mean square, not absolute. Either way
    the variances' sum is that of `noise` with the same settings."""
    probes: Annotated[int, Field(ge=2)] = 8
    """Random directions by which norms are estimated, a backward pass each: 8 leave 7 % more
    information than exact norms, 4 leave 18 %."""

    def finish(
        self, gradients: Mapping[str, Tensor], outputs: Outputs, rng: Generator
    ) -> dict[str, Tensor]:
        """Estimate how much each entry tells, then add noise to all."""
        assert outputs.again is not None
        spread = self.spread(outputs.again, gradients, rng)
        found = {}
        for name, tensor in gradients.items():
            noise = torch.randn(tensor.shape, generator=rng).to(tensor)
            found[name] = tensor + spread[name].to(tensor) * noise
        return found

    def spread(
        self, again: Again, gradients: Mapping[str, Tensor], rng: Generator
    ) -> dict[str, Float[Tensor, "..."]]:
        """Return the noise's standard deviation in every entry, float64, by name."""
        squares = sum(float(tensor.double().square().sum()) for tensor in gradients.values())
        norms = _row_norms(again, self.probes, rng)
        return self._shared_out({name: norms[name] for name in gradients}, squares)

    def _shared_out(self, sizes: Gradient, squares: float) -> Gradient:
        """Give each entry its part of the budget, by sizes; squares are the gradient's, in all."""
        entries = sum(size.numel() for size in sizes.values())
        whole = sum(float(size.sum()) for size in sizes.values())
        budget = self.sigma**2 * (squares if self.relative else entries)
        unit = budget / whole if whole else 0.0
        return {name: (unit * size).sqrt() for name, size in sizes.items()}

    def deviations(
        self, tensors: Mapping[str, Tensor], batch: int = 1
    ) -> dict[str, Float[Tensor, "..."]]:
        """Return what anybody may guess: an entry tells about as much as it is large.

        Nobody but the client knows the norms. They are near the mean size of an entry's row times
        that of its column, as both come from the same errors and activations: on vit_vanilla within
        a factor of 1.5, with random weights of 1.8 (a standard deviation). The true deviations gave
        `pe_ls` 0.1 to 0.5 dB more, as a mean of four pictures.
        """
        squares = sum(float(tensor.double().square().sum()) for tensor in tensors.values())
        sizes = {name: _by_rows_and_columns(tensor) for name, tensor in tensors.items()}
        return self._shared_out(sizes, squares / (1 + self.sigma**2))


def _row_norms(again: Again, probes: int, rng: Generator) -> Gradient:
    """Estimate the norm of each entry's row of the Jacobian in the pixels, by name, float64.

    For v of independent standard normal numbers the mean of (J v)_i^2 is that norm's square.
    """
    images = again.images.detach()

    def loss(weights: Gradient, pixels: Tensor) -> Tensor:
        return again.run(pixels.view(images.shape), weights)[0]

    here = Jacobian(loss, again.weights, images.flatten())
    squares = {n: torch.zeros_like(one, dtype=torch.float64) for n, one in again.weights.items()}
    for _ in range(probes):
        probe = torch.randn(images.numel(), generator=rng).to(images)
        for name, pushed in here.push(probe).items():
            squares[name] += pushed.double().square() / probes
    return {name: one.sqrt() for name, one in squares.items()}


def _by_rows_and_columns(tensor: Tensor) -> Tensor:
    """Return the product of the mean magnitudes of an entry's row and column, over the mean."""
    size = tensor.double().abs()
    if size.dim() < 2:
        return size.mean().expand_as(size)
    # a table of positions has one leading row: its matrix is what follows
    matrix = size.flatten(1) if len(size) > 1 else size.flatten(0, -2)
    mean = matrix.mean().clamp(min=torch.finfo(torch.float64).tiny)
    return (matrix.mean(1, keepdim=True) * matrix.mean(0) / mean).view_as(size)
