"""Patches beside masked ones, whose token gradients are shared as a sum at most.

Where some positions have no embedding of their own, G = D^T X + H^T Y over shown patches X and
masked ones Y, and H is not shared: to solve G = D^T X is to take H^T Y for noise that is not there,
and the fewer errors an update has, the wilder the answer. So rows of H^T Y count as Gaussian: what
the masked patches span weighs little then, and the rest of each shown patch much. The prior of
pictures fills in the former, and the masked patches from what stands beside them.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from privbench.attacks._linear.smooth import conjugate_gradients
from privbench.attacks._linear.waves import Waves

ROUNDS = 3
"""Of covariance and solution. On shown patches the second gains 1 to 4 dB, the third up to 1 (two
pictures, noise of 0.1, 1 and 10 %, trained `vit_mjp`)."""
ALIKE = 0.5
"""Share of masked tokens' gradients that is as large in all directions; the rest is spread as in
shown ones. 0.35 has 0.1 dB more on average, 0.7 0.3 less (four pictures, exact, noise of 1 %)."""
LEAST = 1e-4
"""Error that every entry is taken to have, as a share of its tensor's root mean square; ten times
as much or as little changes a picture by 0.2 dB at most."""
STEPS, ENOUGH = 300, 1e-5
"""Conjugate gradients at most, 50 to 200 as a rule, and the residual that counts as solved."""


def solve(
    token: Float[Tensor, "n d"],
    embedding: Float[Tensor, "d p"],
    total: Float[Tensor, " d"] | None,
    of_token: Float[Tensor, "u d"],
    of_embedding: Float[Tensor, "d p"],
    shown: Bool[Tensor, " n"],
    prior: Waves,
) -> Float[Tensor, "n p"]:
    """Most probable normalized patches, float64, of which u are shown.

    The total is the sum of all token gradients, as the projection's bias has it, or None; errors
    are standard deviations.
    """
    p, masked = embedding.shape[1], int((~shown).sum())
    token = torch.where(shown[:, None], token, 0.0)
    sides, errors = _with_total(token, embedding, of_embedding, total)
    # of each gradient in units of its own, turned so that they are uncorrelated
    sizes, turn = torch.linalg.eigh(_alike(token))
    token, sides = token @ turn, turn.T @ sides
    usual = token[shown].square().mean() if total is None else sides[:, p].square().mean() / masked
    patch = torch.block_diag(prior.of_patch(), torch.eye(sides.shape[1] - p).to(token))
    hidden = masked * usual * patch
    noise = of_token.square().mean(1).sum() * patch
    found = embedding.new_zeros(len(token), p)
    for turns in range(ROUNDS):
        if turns:
            inputs = torch.cat([found, torch.ones_like(found)], dim=1)[shown, : sides.shape[1]]
            noise = (inputs.T * of_token.square().mean(1)) @ inputs
        values, vectors = _pencil(hidden, noise + torch.diag(errors))
        weights = 1 / (sizes[:, None] * values + 1)
        found = _weighted(token, sides @ vectors, weights, vectors[:p], prior, found)
        left = sides.clone()
        left[:, :p] -= token.T @ found
        hidden = _spread(left / sizes[:, None].sqrt(), vectors, float((1 / sizes).mean()), masked)
    return found


def _with_total(
    token: Float[Tensor, "n d"],
    embedding: Float[Tensor, "d p"],
    of_embedding: Float[Tensor, "d p"],
    total: Float[Tensor, " d"] | None,
) -> tuple[Float[Tensor, "d q"], Float[Tensor, " q"]]:
    """Return G, beside it the sum over H as one more column, and variances of both's errors."""
    sizes = embedding.square().mean()
    variances = of_embedding.square().mean(0) + LEAST**2 * sizes
    if total is None:
        return embedding, variances
    share = variances.mean() / sizes
    rest = (total - token.sum(0))[:, None]
    return torch.cat([embedding, rest], dim=1), torch.cat(
        [variances, share * total.square().mean(0, keepdim=True)]
    )


def _alike(token: Float[Tensor, "n d"]) -> Float[Tensor, "d d"]:
    """Covariance of a token's gradient, but for its size, as far as those shown tell it."""
    found = token.T @ token
    one = torch.eye(len(found)).to(found)
    return (1 - ALIKE) * found / found.diagonal().mean() + ALIKE * one


def _pencil(
    hidden: Float[Tensor, "q q"], noise: Float[Tensor, "q q"]
) -> tuple[Float[Tensor, " q"], Float[Tensor, "q q"]]:
    """Return values and vectors V with V^T noise V = 1 and V^T hidden V = diag(values)."""
    root = torch.linalg.cholesky(noise)
    half = torch.linalg.solve_triangular(root, hidden, upper=False)
    whole = torch.linalg.solve_triangular(root, half.T, upper=False)
    values, vectors = torch.linalg.eigh((whole + whole.T) / 2)
    return values.clamp(min=0), torch.linalg.solve_triangular(root.T, vectors, upper=True)


def _weighted(
    token: Float[Tensor, "n d"],
    sides: Float[Tensor, "d q"],
    weights: Float[Tensor, "d q"],
    vectors: Float[Tensor, "p q"],
    prior: Waves,
    start: Float[Tensor, "n p"],
) -> Float[Tensor, "n p"]:
    """Solve weighted least squares under the prior, by conjugate gradients.

    They are preconditioned by what would be if patches were independent and rows weighed alike.
    """
    root = torch.linalg.cholesky(prior.of_patch())
    inner = (vectors * weights.mean(0)) @ vectors.T
    values, basis = torch.linalg.eigh(root.T @ inner @ root)
    powers, sets = torch.linalg.eigh(token @ token.T)
    sizes = powers.clamp(min=0)[:, None] * values.clamp(min=0) + 1
    basis = root @ basis

    def form(z: Tensor) -> Tensor:
        return token @ (weights * (token.T @ (z @ vectors))) @ vectors.T + prior.form(z)

    def precondition(r: Tensor) -> Tensor:
        return sets @ ((sets.T @ r @ basis) / sizes) @ basis.T

    wanted = token @ (weights * sides) @ vectors.T
    return conjugate_gradients(form, wanted, start, precondition, steps=STEPS, tolerance=ENOUGH)


def _spread(
    left: Float[Tensor, "d q"], vectors: Float[Tensor, "q q"], noise: float, masked: int
) -> Float[Tensor, "q q"]:
    """Return the covariance of rows of H^T Y: of what is left, without noise and of low rank."""
    inside = left @ vectors
    whole = inside.T @ inside / len(left)
    values, basis = torch.linalg.eigh(whole - noise * torch.eye(len(whole)).to(whole))
    values[: max(0, len(values) - masked)] = 0
    back = torch.linalg.solve(vectors.T, basis * values.clamp(min=0).sqrt())
    return back @ back.T
