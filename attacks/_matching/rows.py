"""Rows of a position gradient, each compared in its own units.

At and near initialization all rows are almost one vector, and what tells the patches apart is the
small rest. Each row is split along the rows' main direction and across it, and both parts are
divided by their own size.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from privbench.attacks._matching.recipe import Facts, Scalar

TAG = 0.1
"""Weight of absolute differences; TAG leaves it to the user, `breaching` takes this."""
CORNER = 1e-3
"""Below this an absolute difference counts as its square does, so that L-BFGS sees no corner."""


def token_facts(
    rows: Float[Tensor, "n d"], kept: Bool[Tensor, "n d"] | None = None
) -> dict[str, Tensor]:
    """Collect what has to be known of the shared rows, of which only kept entries count.

    Rows without gradient (masked, pruned) say nothing.
    """
    size = rows.norm(dim=1)
    alive = size > 1e-6 * size.max()
    rows = rows * alive[:, None]
    main = torch.linalg.svd(rows, full_matrices=False).Vh[0].expand_as(rows)
    if kept is not None:
        main = main * kept
        main = main / main.norm(dim=1, keepdim=True).clamp(min=torch.finfo(main.dtype).tiny)
    along = (rows * main).sum(1)
    across = rows - along[:, None] * main
    floor = 1e-12 * rows.square().sum(1).max()
    units = [part.clamp(min=floor).sqrt() for part in (along.square(), across.square().sum(1))]
    return {
        "main": main,
        "along": along / units[0],
        "across": across / units[1][:, None],
        "along unit": units[0],
        "across unit": units[1],
        "alive": alive.to(rows) / alive.sum(),
    }


def in_row_units(
    found: Float[Tensor, "n d"], facts: Facts
) -> tuple[Float[Tensor, " n"], Float[Tensor, "n d"]]:
    """Parts of found rows along and across the main direction, in each shared row's own units."""
    along = (found * facts["main"]).sum(1)
    across = found - along[:, None] * facts["main"]
    return along / facts["along unit"], across / facts["across unit"][:, None]


def weighed(
    parts: tuple[Float[Tensor, " n"], Float[Tensor, "n d"]], facts: Facts
) -> list[tuple[Tensor, Tensor]]:
    """Pair found parts with the shared ones, each row with its weight in the mean."""
    root = facts["alive"].sqrt()
    along, across = parts
    return [
        (root * along, root * facts["along"]),
        (root[:, None] * across, root[:, None] * facts["across"]),
    ]


def mean_of_rows(values: Float[Tensor, " n"], facts: Facts) -> Scalar:
    """Mean over the rows that have a gradient."""
    return (values * facts["alive"]).sum()


def squares(along: Float[Tensor, " n"], across: Float[Tensor, "n d"], facts: Facts) -> Scalar:
    """Mean over the rows of both squared gaps."""
    return mean_of_rows(along.square() + across.square().sum(1), facts)


def with_absolute(along: Float[Tensor, " n"], across: Float[Tensor, "n d"], facts: Facts) -> Scalar:
    """TAG's squared plus a tenth of the absolute gaps, rounded off near zero."""
    width = across.shape[1]
    absolute = _rounded(along) + _rounded(across * width**0.5).sum(1) / width
    return squares(along, across, facts) + TAG * mean_of_rows(absolute, facts)


def _rounded(gaps: Tensor) -> Tensor:
    return (gaps.square() + CORNER**2).sqrt() - CORNER


def by_direction(along: Float[Tensor, " n"], across: Float[Tensor, "n d"], facts: Facts) -> Scalar:
    """Squared gaps along, and one minus the cosine of what is across (APRIL, section 4.2)."""
    shared = facts["across"]
    angle = torch.cosine_similarity(across + shared, shared, dim=1)
    return mean_of_rows(along.square() + 1 - angle, facts)
