"""Position study: how plainly a table of position embeddings tells which patch a row belongs to."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from math import isfinite

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from numpy.random import Generator
from timm.layers.pos_embed_sincos import build_sincos2d_pos_embed

from privbench.errors import BadWeights
from privbench.reports.stats import mean_interval
from privbench.victims.load import Victim

DRAWS, FOLDS = 10, 5
"""Random orders of the positions, and parts of each; set by reason."""
FEWEST = 16
"""Positions; of fewer the inner folds have too few to make a pair of."""
COMPONENTS = 20
"""Principal components that the table has a column for."""
STRENGTHS = np.logspace(-8, 4, 25)
"""Of the ridge, as a multiple of the training features' largest squared singular value."""
LEAST_SQUARES = np.zeros(1)
TASKS = ("absolute_1d", "absolute_2d", "relative_1d", "relative_2d")
LEGACY = ("absolute_1d", "absolute_2d", "relative_1d", "relative_2d_uint8")
PUBLISHED = {
    "DeiT-S": {3: 54.61, 4: 68.55, 5: 77.95, 6: 85.54, 7: 90.74},
    "DeiT-S+MJP": {3: 46.74, 4: 58.36, 5: 69.10, 6: 78.13, 7: 84.55},
}
"""Cumulative explained variance in percent by components (arXiv:2601.12051, table XII)."""
PAPER_MODEL = {"vanilla": "DeiT-S", "mjp": "DeiT-S+MJP"}
"""The published model whose positional scheme a victim has."""

Row = dict[str, float | int | str | None]
Places = Int[np.ndarray, "n 3"]
"""Index, row and column of each patch."""


def study(
    victims: Sequence[tuple[str, Victim]], seed: int, report: Callable[[int, int], None]
) -> pd.DataFrame:
    """Return a row per victim, and per shape of a table a random and a fixed sine-cosine one.

    Victims come with their labels; report hears of tables times draws done, and of how many.

    pca_k: variance of the patch rows within the first k principal components, cumulative, in
    percent; NaN for a table without variance. paper_says_pca_k: the same of the published model
    of that scheme, an ImageNet DeiT-S, wherever the victim's own training took place.

    mae_*: mean absolute error of a ridge regression. absolute: from a row to its index (1d, in
    indexes) or its row and column (2d, in patches). relative: from the difference of two rows to
    the signed difference of their places, without intercept, as swapping both must flip the sign.
    Folds split positions. Of relative tasks, too, a pair lies wholly in the training or wholly in
    the test fold: were pairs split, a test pair's embeddings would be in training with their
    places attached. No position is paired with itself, which would be right for free. The ridge's
    strength is chosen by inner folds of the training positions alone, which keep to the same
    rule. Linear readings of both tasks are alike; that one can be done is no finding in addition
    to the other. _floor: error of always naming the mean place, without looking at the table.

    Means are over ten draws of the folds, the same for all tables of a size; of random tables
    each draw has another one. _lo and _hi bound the mean at 95 % and cover the draws only: a
    victim trained again has another table. Fewer than 16 positions give NaN.

    legacy_*: mean over the draws of what MJP's released code computes: least squares without
    ridge, pairs split instead of positions, |i - j| instead of i - j, though a linear function
    of a difference cannot know the sign that it lost; in relative_2d_uint8 a difference of -1
    is 255. For comparison with such numbers only.

    Raises BadWeights if a victim's table is not finite.
    """
    tables = [_of(label, victim) for label, victim in victims]
    tables += [
        reference
        for shape in dict.fromkeys((table.grid, table.width) for table in tables)
        for reference in _references(*shape)
    ]
    rows = []
    for table in tables:
        found = []
        for draw in range(DRAWS):
            found.append(_measure(table, (seed, draw)))
            report(len(rows) * DRAWS + draw + 1, len(tables) * DRAWS)
        rows.append(_row(table, found))
    return pd.DataFrame(rows, columns=_columns())


@dataclass(frozen=True)
class _Table:
    """What is studied: a row of the result."""

    name: str
    grid: int
    width: int
    values: np.ndarray | None = None
    """n x d; None for normal numbers, others in each draw."""
    weights: str = ""
    digest: str = ""
    paper: str | None = None

    def draw(self, rng: Generator) -> Float[np.ndarray, "n d"]:
        """Return the table, or a random one."""
        shape = self.grid**2, self.width
        return rng.normal(size=shape) if self.values is None else self.values


def _of(label: str, victim: Victim) -> _Table:
    vit = victim.model.vit
    values = vit.positions[0, vit.prefix :].detach().cpu().double().numpy()
    if not np.isfinite(values).all():
        raise BadWeights(
            f"{label}: its position table has values that are not finite, as after a training "
            "that diverged. Name other weights."
        )
    # without its localization loss an MJP victim is another model than the published one
    bare = victim.settings.get("localization") == "none"
    paper = None if bare else PAPER_MODEL.get(victim.preset.scheme)
    digest = victim.weights_sha256[:12]
    return _Table(label, vit.grid, values.shape[1], values, victim.weights, digest, paper)


def _references(grid: int, width: int) -> Iterator[_Table]:
    """Tables that say nothing, and all there is to say; the latter if its width allows."""
    yield _Table("random normal", grid, width)
    if width % 4 == 0:
        values = build_sincos2d_pos_embed([grid, grid], dim=width).double().numpy()
        yield _Table("2-D sin-cos", grid, width, values)


def _measure(table: _Table, seed: tuple[int, int]) -> dict[str, float]:
    """All numbers of one draw."""
    axes = _principal(table.draw(np.random.default_rng((*seed, 0))))
    found = {f"pca_{k}": share for k, share in enumerate(_explained(axes), 1)}
    if table.grid**2 < FEWEST:
        return found
    places, rng = _places(table.grid), np.random.default_rng((*seed, 1))
    errors = [_nested(axes, places, relative, rng) for relative in (False, True)]
    found |= {f"mae_{task}": e for task, e in zip(TASKS, np.concatenate(errors), strict=True)}
    legacy = _legacy(axes, places, rng)
    return found | {f"legacy_{task}": e for task, e in zip(LEGACY, legacy, strict=True)}


def _places(grid: int) -> Places:
    index = np.arange(grid**2)
    return np.stack([index, index // grid, index % grid], axis=1)


def _principal(table: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n r"]:
    """Rows in their principal axes, centered; at most n numbers each.

    The turn is orthogonal and knows no place: it changes no regression, but makes it faster.
    """
    u, s, _ = np.linalg.svd(table - table.mean(0), full_matrices=False)
    return u * s


def _explained(axes: Float[np.ndarray, "n r"]) -> Float[np.ndarray, " k"]:
    """Cumulative share in percent of each number of components; NaN where there are fewer."""
    most = min(len(axes) - 1, axes.shape[1], COMPONENTS)
    variance = np.square(axes).sum(0)
    found = np.full(COMPONENTS, np.nan)
    if variance.any():
        found[:most] = 100 * (np.cumsum(variance) / variance.sum())[:most]
    return found


def _splits(
    positions: Int[np.ndarray, " n"],
) -> Iterator[tuple[Int[np.ndarray, " a"], Int[np.ndarray, " b"]]]:
    """Training and test part, fold by fold, in the order given."""
    folds = np.array_split(positions, FOLDS)
    for place, test in enumerate(folds):
        yield np.concatenate(folds[:place] + folds[place + 1 :]), test


Examples = tuple[Float[np.ndarray, "_ r"], Int[np.ndarray, "_ 3"]]


def _examples(
    axes: Float[np.ndarray, "n r"],
    places: Places,
    relative: bool,
    chosen: Int[np.ndarray, " m"],
) -> Examples:
    """Features and targets of the chosen positions, or signed differences of pairs of them.

    Each position makes a pair with the one before it, in a ring: never with itself.
    """
    x, y = axes[chosen], places[chosen]
    return (x - np.roll(x, 1, axis=0), y - np.roll(y, 1, axis=0)) if relative else (x, y)


def _nested(
    axes: Float[np.ndarray, "n r"], places: Places, relative: bool, rng: Generator
) -> Float[np.ndarray, "2"]:
    """Cross-validated error in one and in two dimensions, each with its own ridge strength."""
    take = partial(_examples, axes, places, relative)
    found = []
    for train, test in _splits(rng.permutation(len(axes))):
        inner = [
            _errors(take(learned), take(held), STRENGTHS, intercept=not relative)
            for learned, held in _splits(train)
        ]
        best = STRENGTHS[np.mean(inner, axis=0).argmin(axis=0)]
        errors = _errors(take(train), take(test), best, intercept=not relative)
        found.append(errors.diagonal())  # the first strength's index, the second's row and column
    return np.mean(found, axis=0)


def _errors(
    train: Examples, test: Examples, strengths: Float[np.ndarray, " k"], *, intercept: bool
) -> Float[np.ndarray, "k 2"]:
    """Mean absolute test error by strength, of the index and of row and column.

    One decomposition serves all strengths. Strength zero is least squares, of smallest norm.
    """
    (x, y), (x_test, y_test) = train, test
    x_mean, y_mean = (x.mean(0), y.mean(0)) if intercept else (np.zeros(x.shape[1]), np.zeros(3))
    u, s, axes = np.linalg.svd(x - x_mean, full_matrices=False)
    penalty = strengths[:, None] * s[0] ** 2
    rounding = np.finfo(float).eps * max(x.shape) * s[0]
    kept = np.broadcast_to(s > rounding, (len(strengths), len(s)))
    inverse = np.divide(s, s**2 + penalty, out=np.zeros(kept.shape), where=kept)
    guess = ((x_test - x_mean) @ axes.T * inverse[:, None]) @ (u.T @ (y - y_mean)) + y_mean
    wrong = np.abs(guess - y_test).mean(1)  # k 3
    return np.stack([wrong[:, 0], wrong[:, 1:].mean(1)], axis=1)


def _legacy(
    axes: Float[np.ndarray, "n r"], places: Places, rng: Generator
) -> Float[np.ndarray, "4"]:
    """Errors as MJP's released pestudy/ measures them, uint8 and all (yhlleo/MJP)."""
    one, other = rng.permutation(len(axes)), rng.permutation(len(axes))
    difference = places[one] - places[other]
    wrapped = np.concatenate([np.abs(difference[:, :1]), _wrapped(difference[:, 1:])], axis=1)
    found = []
    for x, y in ((axes[one], places[one]), (axes[one] - axes[other], wrapped)):
        folds = [
            _errors((x[train], y[train]), (x[test], y[test]), LEAST_SQUARES, intercept=True)[0]
            for train, test in _splits(np.arange(len(x)))
        ]
        found.append(np.mean(folds, axis=0))
    return np.concatenate(found)


def _wrapped(difference: Int[np.ndarray, "m c"]) -> Int[np.ndarray, "m c"]:
    """Differences as unsigned bytes hold them: -x is 256 - x, and taking the absolute is idle."""
    return difference % 256


def _floors(grid: int) -> dict[str, float]:
    """Mean absolute error of a constant: of the mean place, and of no displacement."""
    n = grid**2
    absolute = [(count**2 - count % 2) / (4 * count) for count in (n, grid)]
    return dict(zip(TASKS, (*absolute, (n + 1) / 3, grid / 3), strict=True))


def _columns() -> list[str]:
    components = range(1, COMPONENTS + 1)
    published = PUBLISHED["DeiT-S"]
    return [
        *("model", "weights", "weights_sha256", "n", "d"),
        *(f"pca_{k}" for k in components),
        *("paper_says", *(f"paper_says_pca_{k}" for k in published)),
        *(f"mae_{task}{end}" for task in TASKS for end in ("", "_lo", "_hi", "_floor")),
        *(f"legacy_{task}" for task in LEGACY),
    ]


def _row(table: _Table, draws: Sequence[dict[str, float]]) -> Row:
    """Means over the draws; what is empty was not measured or never published."""
    row: Row = {"model": table.name, "weights": table.weights, "weights_sha256": table.digest}
    row |= {"n": table.grid**2, "d": table.width, "paper_says": table.paper}
    published = PUBLISHED.get(table.paper or "", {})
    row |= {f"paper_says_pca_{k}": share for k, share in published.items()}
    row |= {name: float(np.mean([draw[name] for draw in draws])) for name in draws[0]}
    for task, floor in _floors(table.grid).items():
        name = f"mae_{task}"
        values = [draw[name] for draw in draws if isfinite(draw.get(name, np.nan))]
        row[name], row[f"{name}_lo"], row[f"{name}_hi"] = mean_interval(values)
        row[f"{name}_floor"] = floor
    return row
