"""How a victim is trained; one recipe for all positional schemes."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0, le=1)]
Amount = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]


class Recipe(BaseModel):
    """Optimizer, schedule and augmentation; `--set train.KEY=VALUE` changes them.

    The defaults are DeiT's (arXiv:2012.12877) as MJP's released code sets them, for the batch
    and the number of epochs that a preset names.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    epochs: Count = 300
    batch_size: Count = 1024
    lr: Annotated[float, Field(gt=0)] = 1e-3
    """At the top of the schedule: linear warm-up, then a cosine."""
    min_lr: Amount = 1e-5
    warmup: Share = 20 / 300
    """Share of the steps."""
    weight_decay: Amount = 0.05
    """Not on vectors; positions and class token only with decay_positions."""
    decay_positions: bool = False
    clip: Annotated[float, Field(gt=0)] = 5.0
    """Global norm of the gradient."""
    label_smoothing: Share = 0.1
    mixup: Amount = 0.8
    cutmix: Amount = 1.0
    mix: Share = 1.0
    """Probability that a batch is mixed at all."""
    augment: str = "rand-m9-mstd0.5-inc1"
    """timm's RandAugment; '' for none."""
    erasing: Share = 0.25
    crop: Literal["resized", "padded"] = "resized"
    """A random part of the picture, or all of it inside a border, shifted."""
    padding: Annotated[int, Field(ge=0)] = 4
    """Zero border of a padded crop, in pixels."""
    repeats: Count = 1
    """Repeated augmentation: copies of an image in an epoch, at an unchanged number of steps."""
    exposure: Share = 0.5
    """Probability that a step draws for the positional scheme; other defenses act in every step."""
    exposure_after: Share = 20 / 300
    """Share of the epochs before the first such step."""
    bf16: bool = False
    """bfloat16 autocast of the forward pass."""
