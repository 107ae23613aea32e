"""CENSOR: a random direction orthogonal to the gradient is shared (Zhang et al., NDSS 2025)."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Generator, Tensor

from privbench.defense import Defense, Outputs


class Censor(Defense):
    """CENSOR: the best of some random gradients, each tensor orthogonal to its true gradient."""

    paper: ClassVar[str] = "arXiv:2501.15718"
    answered_by: ClassVar[tuple[str, ...]] = ("auto", "rounds")
    trials: Annotated[int, Field(ge=1)] = 20
    """Of which the one with the lowest loss is shared."""
    rate: Annotated[float, Field(gt=0)] = 1e-4
    """Of the trial step."""
    variant: Literal["paper", "official"] = "paper"
    """paper; or official, as released: the projection divides by the gradient's norm once, so it
    is orthogonal only where that is one, and the true gradient is shared where no trial lowers the
    loss."""

    def finish(
        self, gradients: Mapping[str, Tensor], outputs: Outputs, rng: Generator
    ) -> dict[str, Tensor]:
        """Draw gradients, take a trial step with each, and return the best."""
        assert outputs.again is not None
        again, best, lowest = outputs.again, dict(gradients), float("inf")
        with torch.no_grad():
            if self.variant == "official":
                lowest = float(again.run(again.images, {})[0])
            for _ in range(self.trials):
                drawn = {name: self._drawn(tensor, rng) for name, tensor in gradients.items()}
                moved = {n: w - self.rate * drawn[n] for n, w in again.weights.items()}
                loss = float(again.run(again.images, moved)[0])
                if loss < lowest:
                    best, lowest = drawn, loss
        return best

    def _drawn(self, gradient: Tensor, rng: Generator) -> Tensor:
        """Return a random tensor of the gradient's norm, orthogonal to it."""
        flat = gradient.detach().flatten().double()
        norm = flat.norm()
        if not norm:
            return torch.zeros_like(gradient)
        drawn = torch.randn(flat.shape, generator=rng).to(flat)
        drawn = drawn / drawn.norm()
        over = norm if self.variant == "official" else norm.square()
        drawn = drawn - (drawn @ flat) / over * flat
        length = drawn.norm()
        # a tensor of one number has no direction orthogonal to it
        if length <= 1e-9:
            return torch.zeros_like(gradient)
        return (drawn / length * norm).view_as(gradient).to(gradient)
