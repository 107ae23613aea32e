"""How a published model's pictures are cropped."""

import timm

from privbench.victims.preset import is_own, model_preset

KNOWN = ("bicubic", "bilinear")


def view_of(model: str, weights: str) -> dict[str, float | str]:
    """Return crop and interpolation that timm publishes for a model; none for other weights.

    They are settings of data sets whose pictures have any size. Only a center crop counts.
    """
    if weights != "pretrained" or is_own(model):
        return {}
    preset = model_preset(model)
    facts = timm.get_pretrained_cfg(preset.timm or preset.pretrained or "")
    if facts is None or facts.crop_mode != "center":
        return {}
    how = {"interpolation": facts.interpolation} if facts.interpolation in KNOWN else {}
    return {"crop": float(facts.crop_pct), **how}
