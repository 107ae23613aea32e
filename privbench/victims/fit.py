"""Whether tensors fit a victim, and how a table of positions is made to."""

from collections.abc import Mapping

from timm.layers.pos_embed import resample_abs_pos_embed
from torch import Tensor

from privbench.vit import ViT

FIXED = 0.004
"""How far a fixed table may be from the model's own: what bfloat16 does to a number near one."""


def completed(vit: ViT, found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Add what a defense added to the victim and weights know nothing of, as it was drawn."""
    state = vit.state_dict()
    return {**{name: state[name] for name in vit.fresh}, **found}


def resampled(vit: ViT, found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Fit a learned position table of another square grid to the victim's."""
    table, own = found.get(ViT.POSITIONS), vit.positions
    if table is None or ViT.POSITIONS in vit.fixed or table.ndim != 3 or table.shape == own.shape:
        return dict(found)
    side = round(max(table.shape[1] - vit.prefix, 0) ** 0.5)
    if table.shape[2] != own.shape[2] or side**2 + vit.prefix != table.shape[1] or not side:
        return dict(found)
    fitted = resample_abs_pos_embed(
        table.float(), new_size=[vit.grid] * 2, old_size=[side] * 2, num_prefix_tokens=vit.prefix
    )
    return {**found, ViT.POSITIONS: fitted}


def differences(vit: ViT, found: Mapping[str, Tensor]) -> dict[str, str]:
    """Say for every tensor that does not fit a victim what is wrong; empty if all do.

    Order: the victim's tensors, then those that it does not know. A table that a scheme fixes, such
    as zeros in the place of positions, has to be the victim's own: learned positions would turn
    the victim into another one without a word.
    """
    state = vit.state_dict()
    wrong: dict[str, str] = {}
    for key in [*state, *(key for key in found if key not in state)]:
        has = _shape(found[key]) if key in found else "missing"
        wants = _shape(state[key]) if key in state else "no such tensor"
        if has != wants:
            wrong[key] = f"{key} ({has} in the file, {wants} in the model)"
        elif key in vit.fixed and not found[key].float().allclose(state[key], rtol=0, atol=FIXED):
            wrong[key] = f"{key} (not the fixed values that the model has there)"
    return wrong


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "one number"
