"""Mixtures of pictures: whether a client makes them, and its draw once somebody found it.

A defense's procedure is public, so what kind of draw it has is read off one that is made here.
"""

from dataclasses import fields, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from privbench.observation import Observation
from privbench.threat import Randomness

MIXTURE = {"parts", "shares"}
"""Of a draw that mixes: which pictures each input is made of, and the share of each."""


def mixes(seen: Observation) -> bool:
    """Whether network inputs are mixtures of the batch's pictures, whatever else is done."""
    return _names(_sample(seen)) >= MIXTURE


def flips(seen: Observation) -> bool:
    """Whether pixels of the mixtures have signs of their own, around gray."""
    return "signs" in _names(_sample(seen))


def as_draw(seen: Observation, mixing: Float[Tensor, "b b"]) -> Randomness | None:
    """Return the draw of a client that mixes as told and draws nothing else; None of others.

    Rows are inputs. With it anybody can compute the mixtures' gradient from the pictures.
    """
    sample = _sample(seen)
    if sample is None or _names(sample) != MIXTURE:
        return None
    parts = torch.arange(len(mixing), device=mixing.device).expand(len(mixing), -1)
    own: dict[str, Any] = {"parts": parts, "shares": mixing.float()}
    return replace(sample, **own)


def _sample(seen: Observation) -> Randomness | None:
    model = seen.model
    return model.defense.draw(model.vit, seen.shape[0], Generator().manual_seed(0))


def _names(sample: Randomness | None) -> set[str]:
    return set() if sample is None else {one.name for one in fields(sample)}
