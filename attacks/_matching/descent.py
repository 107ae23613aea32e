"""Rows of pixels that descend side by side, and the evaluation of their objective."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import count

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor
from torch.func import grad_and_value, vmap

from privbench.attack import Tick
from privbench.attacks._matching.optimizers import LBFGS, Box, Index, Rows, Values
from privbench.attacks._matching.recipe import Comparison, Gradient, Recipe, Scalar, Stage
from privbench.client_step import ClientStep
from privbench.errors import OutOfMemory
from privbench.observation import Observation, PublicModel
from privbench.threat import Images, Randomness, Reconstruction

MANY, FEW = 16, 8
"""Rows that a processor takes at once, if there are so many: two thirds of the time of one by one
at 32 px. Two or four bring next to nothing, and 32 no longer fit into its cache."""
SMALL = 2**15
"""Numbers in one layer's tokens up to which it does so; larger models fill its memory."""
NOISE = 0.01
"""Spread of the noise on a gray start, in pixels' units."""


@dataclass(frozen=True)
class Task:
    """One observation, and what an attack read off it."""

    seen: Observation
    asked: Comparison
    labels: Int[Tensor, " b"] | None
    """None where they are to be found."""
    draw: Randomness | None
    """What the model is run with."""
    rng: Generator
    tick: Tick


class Descent:
    """One recipe on tasks of equal shape; a row is a restart of a task."""

    def __init__(self, recipe: Recipe, tasks: list[Task]) -> None:
        first = tasks[0]
        self.recipe, self.tasks, self.asked = recipe, tasks, first.asked
        self.shape = first.seen.shape
        self.model = first.seen.model
        if recipe.wide:  # a copy: other cases run on the shared model at the same time
            self.model = PublicModel(copy.deepcopy(self.model.vit).double(), self.model.defense)
        vit = self.model.vit
        self.mean, self.std = vit.mean, vit.std
        self.facts = [self._facts(task) for task in tasks for _ in range(recipe.restarts)]
        self.points = torch.stack([one for task in tasks for one in self._starts(task)])
        self.at_once = len(self.points)
        if vit.mean.device.type == "cpu":
            worth = self.at_once >= FEW and vit.positions.numel() <= SMALL
            self.at_once = min(self.at_once, MANY) if worth else 1
        self.step = ClientStep(vit, self.model.defense).apart() if self.at_once > 1 else None
        self.draw = first.draw
        self.lowest = [float("inf")] * len(self.points)
        self.best = self.points.clone()
        self.calls = [0] * len(self.points)
        self.halved = False
        self.total = sum(recipe.counts()) * recipe.restarts

    def answers(self) -> list[Reconstruction]:
        """Descend, and return for each task the best point of its restarts."""
        counts = self.recipe.counts()
        stages = [
            (count, _Evaluation(self, stage))
            for count, stage in zip(counts, self.recipe.stages, strict=True)
        ]
        self.recipe.optimizer.run(self.points, stages, self._box() if self.recipe.boxed else None)
        return [self._answer(number) for number in range(len(self.tasks))]

    def _facts(self, task: Task) -> dict[str, Tensor]:
        facts = {f"fact {name}": tensor for name, tensor in task.asked.facts.items()}
        if task.draw is not None:
            drawn = task.draw.to(self.mean.device).tensors()
            facts |= {f"draw {number}": tensor for number, tensor in enumerate(drawn)}
        if self.recipe.wide:
            facts = {n: t.double() if t.is_floating_point() else t for n, t in facts.items()}
        return facts if task.labels is None else facts | {"labels": task.labels}

    def _starts(self, task: Task) -> list[Float[Tensor, " p"]]:
        return [self._start(task.rng) for _ in range(self.recipe.restarts)]

    def _start(self, rng: Generator) -> Float[Tensor, " p"]:
        """Pixels in units of the normalization, then the scores of soft labels."""
        mean, std, start = self.mean, self.std, self.recipe.start
        if start == "uniform":
            pixels = (torch.rand(self.shape, generator=rng).to(mean) - mean) / std
        else:
            pixels = torch.randn(self.shape, generator=rng).to(mean)
            pixels = NOISE * pixels / std if start == "gray" else pixels
        if not self.recipe.joint:
            return pixels.flatten()
        scores = torch.randn(self.shape[0], self.model.vit.classes, generator=rng).to(mean)
        return torch.cat([pixels.flatten(), (0.0 if start == "gray" else 1.0) * scores.flatten()])

    def _box(self) -> Box:
        edges = ((edge - self.mean) / self.std for edge in (0.0, 1.0))
        low, high = (edge.expand(self.shape).flatten() for edge in edges)
        if not self.recipe.joint:
            return low, high
        free = self.mean.new_full((self.shape[0] * self.model.vit.classes,), float("inf"))
        return torch.cat([low, -free]), torch.cat([high, free])

    def split(self, point: Float[Tensor, " p"]) -> tuple[Images, Float[Tensor, "b classes"]]:
        """Pictures in [0, 1] (not clamped), and the scores of soft labels, or nothing."""
        b, c, h, w = self.shape
        pixels, scores = point[: b * c * h * w], point[b * c * h * w :]
        return pixels.view(self.shape) * self.std + self.mean, scores.view(b, -1)

    def hear(self, rows: list[int], points: Rows, scores: list[float], values: list[float]) -> None:
        """Keep the best points, and say how far each task is."""
        for row, point, score, value in zip(rows, points, scores, values, strict=True):
            self.calls[row] += 1
            if score < self.lowest[row]:
                self.lowest[row], self.best[row] = score, point
            task, restarts = row // self.recipe.restarts, self.recipe.restarts
            done = sum(self.calls[task * restarts : (task + 1) * restarts])
            self.tasks[task].tick(done, self.total, value)

    def _answer(self, number: int) -> Reconstruction:
        task, restarts = self.tasks[number], self.recipe.restarts
        rows = range(number * restarts, (number + 1) * restarts)
        row = min(rows, key=lambda row: self.lowest[row])
        images, scores = self.split(self.best[row])
        warnings = []
        if self.lowest[row] == float("inf"):
            images = self.mean.expand(self.shape)
            warnings.append("The objective was never finite, so this is the mean color.")
        if self.halved:
            warnings.append(
                f"Memory was short: {self.at_once} of {len(self.points)} rows ran at once."
            )
        return Reconstruction(
            images.clamp(0, 1).float().clone(),
            objective=self.lowest[row],
            labels=scores.argmax(1) if task.labels is None else task.labels,
            gradient_calls=sum(self.calls[row] for row in rows),
            warnings=tuple(warnings),
        )


class _Evaluation:
    """The objective of one stage, for whichever rows an optimizer asks."""

    def __init__(self, descent: Descent, stage: Stage) -> None:
        self.descent, self.stage = descent, stage
        self.anchors: Tensor | None = None

    def __call__(self, points: Rows, rows: Index) -> tuple[Values, Rows]:
        """Return objectives and slopes."""
        found = self.descent
        still = isinstance(found.recipe.optimizer, LBFGS) and self.anchors is not None
        if self.stage.group and not still:  # Adam's calls, and the first of all, are for all rows
            self.anchors = self._anchors(points)
        parts: list[tuple[Tensor, Tensor, Tensor]] = []
        start = 0
        while start < len(points):
            part = slice(start, start + found.at_once)
            try:
                parts.append(self._part(points[part], rows[part]))
            except RuntimeError as error:
                if not _is_memory(error):
                    raise
                if found.at_once == 1:
                    raise OutOfMemory from None
                found.at_once, found.halved = (found.at_once + 1) // 2, True
            else:
                start += found.at_once
        values, scores, slopes = (torch.cat(column) for column in zip(*parts, strict=True))
        found.hear(rows.tolist(), points, scores.tolist(), values.tolist())
        return values, slopes

    def _anchors(self, points: Rows) -> Tensor:
        restarts = self.descent.recipe.restarts
        pictures = torch.stack([self.descent.split(point)[0] for point in points])
        means = pictures.unflatten(0, (-1, restarts)).mean(1)
        return means.repeat_interleave(restarts, dim=0)

    def _part(self, points: Rows, rows: Index) -> tuple[Tensor, Tensor, Tensor]:
        """Objectives, scores and slopes of some rows at once."""
        step, facts = self.descent.step, [self.descent.facts[row] for row in rows.tolist()]
        if self.anchors is not None:
            facts = [f | {"anchor": self.anchors[r]} for f, r in zip(facts, rows, strict=True)]
        if step is None:
            return self._alone(points, facts[0])
        together = {name: torch.stack([one[name] for one in facts]) for name in facts[0]}
        # The outer slope is torch.func's own; the usual graph would be kept for nothing.
        with torch.no_grad():
            whole = grad_and_value(partial(self._objective, partial(_slopes, step)), has_aux=True)
            slopes, (values, scores) = vmap(whole)(points, together)
        return values, scores, slopes

    def _alone(self, points: Rows, facts: Gradient) -> tuple[Tensor, Tensor, Tensor]:
        point = points[0].detach().requires_grad_()
        value, score = self._objective(self.descent.model.gradient, point, facts)
        (slope,) = torch.autograd.grad(value, point)
        return value.detach()[None], score.detach()[None], slope[None]

    def _objective(
        self, gradient: Callable[..., Gradient], point: Tensor, facts: Gradient
    ) -> tuple[Scalar, Scalar]:
        """Return what is descended, and what decides which point is the best."""
        descent, stage = self.descent, self.stage
        images, scores = descent.split(point)
        draw, numbers = descent.draw, count()
        if draw is not None:
            draw = draw.map(lambda _: facts[f"draw {next(numbers)}"])
        targets = facts["labels"] if "labels" in facts else scores.softmax(1)
        asked = descent.asked
        found = gradient(images, targets, draw, of=asked.names)
        distance = asked.distance(found, {n: facts[f"fact {n}"] for n in asked.facts})
        always, now = (
            [weight * term(images) for weight, term in priors if weight]
            for priors in (descent.recipe.priors, stage.priors)
        )
        now += [weight * term(images - facts["anchor"]) for weight, term in stage.group if weight]
        score = torch.stack([distance, *always]).sum()
        return torch.stack([stage.matching * distance, *always, *now]).sum(), score


def _slopes(
    step: ClientStep,
    images: Images,
    targets: Tensor,
    draw: Randomness | None,
    *,
    of: tuple[str, ...],
) -> Gradient:
    """Return what PublicModel.gradient does, by functions that torch.func.vmap takes."""
    return step.pure(images, targets, draw, of=of)[0]


def _is_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
