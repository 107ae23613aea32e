"""Says when a score can't be trusted; never refuses."""

import torch

from privbench.threat import Reconstruction, Secret, Update

NEARLY_ZERO = 1e-12


def warnings(
    update: Update,
    answer: Reconstruction,
    secret: Secret,
    floor: torch.Tensor,
    unread_rounds: int = 1,
) -> tuple[str, ...]:
    """Sentences about one case; floor is the mean-color picture.

    Unread rounds are those of a threat model whose attack reads the first alone.
    """
    found = list(answer.warnings)
    if unread_rounds > 1:
        found.append(f"This attack reads the first of {unread_rounds} updates only.")
    if all(float(tensor.abs().max()) < NEARLY_ZERO for tensor in update.tensors.values()):
        found.append("The update is (nearly) zero.")
    mask = None if secret.draw is None else secret.draw.treated
    if mask is not None and not mask.any():
        found.append("The defense's sampler drew an empty mask: nothing was protected.")
    wrong = [(picture - secret.fed).square().mean() for picture in (answer.images, floor)]
    if wrong[0] > wrong[1]:
        found.append("The attack does worse than the mean-color picture.")
    return tuple(found)
