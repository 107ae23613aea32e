"""Tests run with shapes and types checked, whatever the check costs."""

from typing import Any

import pytest
import torch
from beartype import beartype
from beartype.roar import BeartypeCallHintViolation
from jaxtyping import Float, TypeCheckError
from torch import Tensor

from privbench.patches import cut
from privbench.prior import of_square
from privbench.threat import Protocol
from tests import typed


def doubled(one: Float[Tensor, " n"], other: Float[Tensor, " n"]) -> Float[Tensor, " 2*n"]:
    return one + other if len(one) == 1 else torch.cat([one, other])


CHECKED = typed.jaxtyped(typechecker=beartype)(doubled)


def test_the_package_is_checked():
    assert cut(torch.zeros(1, 3, 8, 8), 4).shape == (1, 4, 48)
    wrong: Any = 4.0
    for images, side in ((torch.zeros(1, 1, 8, 8), 4), (torch.zeros(1, 3, 8, 8), wrong)):
        with pytest.raises(BeartypeCallHintViolation):
            cut(images, side)
    with pytest.raises(BeartypeCallHintViolation):
        of_square(torch.zeros(3, 3), torch.zeros(2, 3), 0.0)  # q q
    with pytest.raises(TypeCheckError):
        Protocol(batch_size=wrong)


def test_dimensions_of_one_name_are_equal_within_a_call_and_free_between_calls():
    for n in (2, 3):
        assert CHECKED(torch.zeros(n), torch.zeros(n)).shape == (2 * n,)
    with pytest.raises(BeartypeCallHintViolation, match="other"):
        CHECKED(torch.zeros(2), torch.zeros(3))
    with pytest.raises(BeartypeCallHintViolation, match="return"):
        CHECKED(torch.zeros(1), torch.zeros(1))


def test_what_wraps_a_function_is_kept():
    kinds: tuple[Any, ...] = (classmethod, staticmethod, property)
    held = {kind: typed.jaxtyped(typechecker=beartype)(kind(doubled)) for kind in kinds}
    assert all(type(one) is kind for kind, one in held.items())
    with pytest.raises(BeartypeCallHintViolation):
        held[staticmethod].__func__(torch.zeros(2), torch.zeros(3))
