"""How little a puzzle changes the model, by Masked Jigsaw Puzzle's measure (arXiv:2205.12551).

The paper resizes whole pictures straight to the model's side, without a center crop. Beyond the
paper: agreement where the plain answer is right, and the divergence of the softmax outputs.
"""

from collections.abc import Mapping
from typing import Annotated, ClassVar

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Generator, Tensor
from torch.nn.functional import kl_div, log_softmax

from privbench.block_masks import blockwise_draw, moved
from privbench.classifier import Classifier
from privbench.evaluation import Condition, Evaluation
from privbench.kind import Kind
from privbench.threat import Images


class Consistency(Evaluation):
    """Distance of features, agreement of answers and KL divergence, plain against shuffled."""

    paper: ClassVar[str] = "arXiv:2205.12551"
    standard: ClassVar[bool] = True
    of_victims: ClassVar[bool] = True
    random: ClassVar[bool] = True
    kinds: ClassVar[Mapping[str, Kind]] = {
        "agreement*": Kind.SHARE,
        "feature_distance": Kind.MEAN,
        "kl": Kind.MEAN,
    }
    ratio: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Nominal share of the patches that are shuffled."""

    def measure(
        self,
        model: Classifier,
        images: Images,
        labels: Int[Tensor, " b"],
        condition: Condition,
        rngs: list[Generator],
    ) -> dict[str, Float[Tensor, " b"]]:
        """Return L2 distance of class features, equality of answers, KL in nats."""
        assert model.public is not None
        vit = model.public.vit
        draw = blockwise_draw(vit.grid, self.ratio, rngs)
        positions = model.public.defense.positions(vit, draw)
        plain = vit.encode(images, vit.positions)
        puzzled = vit.encode(moved(images, vit.patch, draw), positions)
        first, second = model.among(vit.head(plain)), model.among(vit.head(puzzled))
        agrees = (first.argmax(1) == second.argmax(1)).float()
        right = first.argmax(1) == labels
        kept = first[0] > -torch.inf  # a class that is ruled out adds zero times infinity
        logs = log_softmax(second[:, kept], 1), log_softmax(first[:, kept], 1)
        return {
            "feature_distance": (plain[:, 0] - puzzled[:, 0]).norm(dim=1),
            "agreement": agrees,
            "agreement_when_right": torch.where(right, agrees, torch.nan),
            "kl": kl_div(*logs, reduction="none", log_target=True).sum(1),
        }
