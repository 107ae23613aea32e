"""Classifier: any model that can be measured, be it a victim, one of timm's, or the user's own."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor

from privbench.component import Part
from privbench.errors import NotFinite
from privbench.observation import PublicModel
from privbench.threat import Images


@dataclass(frozen=True)
class Classifier:
    """Pictures in, logits out; and how records name it."""

    network: Callable[[Images], Tensor]
    """From float32 in [0, 1] to logits; normalization is its own affair."""
    part: Part
    control: str | None
    """Label of the undefended victim."""
    weights: str
    weights_sha256: str
    side: int
    classes: int
    dataset: str
    """Measured on unless the user names another."""
    device: torch.device
    public: PublicModel | None = None
    """Of a victim: its backbone and its positional rule."""
    columns: tuple[int, ...] | None = None
    """Classes among which the answer is chosen; None for all."""
    notes: tuple[str, ...] = ()
    """What a reader of its figures has to know."""
    class_names: tuple[str, ...] = ()
    """By column; none where nothing tells them."""
    view: Mapping[str, float | str] = field(default_factory=dict)
    """Crop and interpolation that its accuracy was published with, as settings of a data set."""

    def logits(self, images: Images) -> Float[Tensor, "b classes"]:
        """Return logits, minus infinity for classes that are out of the question.

        Raises NotFinite where the network's own are NaN or infinite.
        """
        return self.among(self.network(images))

    def among(self, logits: Float[Tensor, "b classes"]) -> Float[Tensor, "b classes"]:
        """Rule out the classes that no answer can be; raises NotFinite."""
        require_finite(logits)
        if self.columns is None:
            return logits
        kept = torch.full_like(logits, -torch.inf)
        chosen = list(self.columns)
        kept[:, chosen] = logits[:, chosen]
        return kept

    def restricted(self, columns: list[int] | None) -> "Classifier":
        """Return this model choosing among these classes only."""
        return replace(self, columns=None if columns is None else tuple(columns))


def require_finite(values: Float[Tensor, "b ..."]) -> None:
    """Raise NotFinite, with the rows, where anything is NaN or infinite.

    An argmax takes NaN for the largest number and a comparison for a wrong answer, so that
    accuracy would come out as if nothing were.
    """
    wrong = ~values.isfinite().reshape(len(values), -1).all(1)
    if wrong.any():
        rows = wrong.nonzero().flatten().tolist()
        raise NotFinite(
            f"The model answers {len(rows)} of {len(values)} pictures with NaN or infinity. "
            "Check its weights.",
            rows,
        )
