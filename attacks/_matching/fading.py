"""The stages in which a smoothness prior fades: what lets L-BFGS find pictures from gray."""

from privbench.attacks._matching.priors import out_of_box, roughness
from privbench.attacks._matching.recipe import Priors, Stage

FADING = ((10.0, 3), (3.0, 4), (1.0, 4), (0.3, 4), (0.1, 3), (0.0, 4))
"""Weight of the smoothness prior, and share of the evaluations in 22nds; set by reason."""
BOX: Priors = ((3.0, out_of_box),)
"""Penalty on pixels outside [0, 1]; its weight is set by reason."""


def fading() -> tuple[Stage, ...]:
    """Stages of less and less smoothness, the last of none."""
    return tuple(Stage(share, ((weight, roughness),)) for weight, share in FADING)
