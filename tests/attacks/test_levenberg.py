"""Levenberg-Marquardt on systems whose solution is known."""

import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from privbench.attacks._span.levenberg import Rows, Solved, solve


def _least_squares(n: int, q: int, steps: int) -> tuple[Solved, Float[Tensor, "n q"]]:
    """Solve n linear systems of q unknowns each; return what was found and the truth."""
    rng = torch.Generator().manual_seed(0)
    matrix = torch.randn(n, 2 * q, q, generator=rng, dtype=torch.float64)
    truth = torch.randn(n, q, generator=rng, dtype=torch.float64)

    def rest(theta: Tensor, rows: Rows) -> Tensor:
        return torch.einsum("rfq,rq->rf", matrix[rows], theta - truth[rows])

    def cost(theta: Tensor, rows: Rows) -> Tensor:
        return rest(theta, rows).square().sum(1)

    def model(theta: Tensor, rows: Rows) -> tuple[Tensor, Tensor]:
        part = matrix[rows]
        slope = torch.einsum("rfq,rf->rq", part, rest(theta, rows))
        return slope, part.transpose(1, 2) @ part

    return solve(cost, model, torch.zeros_like(truth), steps, 1e-12), truth


@pytest.mark.slow
def test_many_wide_systems_on_two_threads() -> None:
    """Sizes of a ViT-S at 224 px, at which torch's batched LU breaks down with two threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        found, truth = _least_squares(180, 204, 12)
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(found.at, truth, rtol=0, atol=1e-5)
    assert float(found.cost.max()) < 1e-6


def test_rows_that_are_done_cost_nothing_more() -> None:
    few, _ = _least_squares(5, 6, 12)
    many, _ = _least_squares(5, 6, 40)
    assert few.evaluations == many.evaluations


def test_a_matrix_that_cannot_be_factorized_leaves_its_row_alone() -> None:
    """A row with a broken model stays where it is; the others are solved."""
    target = torch.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=torch.float64)

    def cost(theta: Tensor, rows: Rows) -> Tensor:
        return (theta - target[rows]).square().sum(1)

    def model(theta: Tensor, rows: Rows) -> tuple[Tensor, Tensor]:
        bend = torch.eye(2, dtype=torch.float64).repeat(len(rows), 1, 1)
        bend[rows == 1] = torch.tensor([[1.0, 9.0], [9.0, 1.0]], dtype=torch.float64)
        return theta - target[rows], bend

    found = solve(cost, model, torch.zeros_like(target), 8, 1e-12)
    torch.testing.assert_close(found.at[0], target[0])
    assert torch.isfinite(found.at).all()
    assert float(found.cost[1]) <= float(target[1].square().sum())
