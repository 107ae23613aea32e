"""Patches from a linear system whose two sides both carry errors, under a smoothness prior."""

import torch
from jaxtyping import Float
from torch import Tensor

from privbench.attacks._linear.smooth import Smoothness, conjugate_gradients

ROUNDS = 3
"""Of weights and solution; more of them smooth too much."""
GROUND = 1e-3
"""Weight of the mean color: hardly any, but the form stays positive."""


def solve(
    token: Float[Tensor, "n d"],
    embedding: Float[Tensor, "d p"],
    of_token: Float[Tensor, "n d"],
    of_embedding: Float[Tensor, "d p"],
    side: int,
    tolerance: float = 1e-5,
) -> Float[Tensor, "n p"]:
    """Most probable patches X of embedding = token^T X, given the errors' standard deviations.

    Errors of the token gradient enter as more variance of the other side, by the patches found so
    far; weighted least squares with the prior follow. Estimating the token gradient as well
    (total least squares) gained less than 1 dB.
    """
    found = embedding.new_zeros(len(token), embedding.shape[1])
    prior = Smoothness(found, side)
    for turn in range(ROUNDS):
        squares = found.square() if turn else torch.ones_like(found)
        if turn:
            prior.fit(found)
        weights = 1 / (of_embedding.square() + of_token.square().T @ squares)
        found = _weighted(token, embedding, weights, prior, found, tolerance)
    return found


def _weighted(
    token: Float[Tensor, "n d"],
    embedding: Float[Tensor, "d p"],
    weights: Float[Tensor, "d p"],
    prior: Smoothness,
    start: Float[Tensor, "n p"],
    tolerance: float,
) -> Float[Tensor, "n p"]:
    values, vectors = torch.linalg.eigh(token * weights.mean(1) @ token.T)
    sizes = values.clamp(min=0)[:, None] + prior.diagonal() + GROUND

    def form(z: Tensor) -> Tensor:
        return token @ (weights * (token.T @ z)) + prior.form(z) + GROUND * z

    def precondition(r: Tensor) -> Tensor:
        return vectors @ prior.from_waves(prior.to_waves(vectors.T @ r) / sizes)

    wanted = token @ (weights * embedding)
    return conjugate_gradients(form, wanted, start, precondition, tolerance=tolerance)
