"""What a record says, made again from weights, pictures and answers; no attack runs."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from privbench.errors import BadData, PrivbenchError
from privbench.metric import Metric
from privbench.records.answers import Answers
from privbench.records.case import Case, Record, Scores
from privbench.records.utility import UtilityCase
from privbench.running.client import drawn
from privbench.running.jobs import Recipe
from privbench.running.plan import threat_of
from privbench.running.rescore import batch_of, marks_of, stored_answers
from privbench.running.scoring import Marks, all_metrics, facts
from privbench.running.victims import Batch, Victims
from privbench.submission.answered import answer_faults, picture_faults, proof_faults
from privbench.submission.faults import Findings
from privbench.threat import Draw, Images
from privbench.victims.load import Victim, known_settings
from privbench.victims.preset import model_preset

ALIKE = 1e-5
"""Of pixels, up to which two are one: what arithmetic of another computer changes."""
RELATIVE, ABSOLUTE = 1e-3, 1e-4
"""How far a score may be from the one made again: arithmetic of another computer."""
DRAWN, COMES_ALONG = "init", "trained"
"""Names of weights that this installation can make again."""

Fault = tuple[str, str]


class Derivation:
    """Makes what records say again, with victims and pictures that are opened once."""

    def __init__(self, data_root: Path | None, findings: Findings, victims: Victims) -> None:
        self.victims, self.metrics = victims, all_metrics()
        self.data_root, self.findings = data_root, findings
        self._recipes: dict[str, Recipe | None] = {}

    def victim(self, case: Case | UtilityCase) -> Victim | None:
        """Return a case's victim where it comes along; raises PrivbenchError."""
        recipe = self._recipe(case)
        return None if recipe is None else self.victims.get(recipe)

    def _recipe(self, case: Case | UtilityCase) -> Recipe | None:
        defenses = case.defense if isinstance(case, Case) else ()
        named = [vars(one) for one in (case.model, *defenses)]
        key = json.dumps([named, case.weights], default=str)
        if key not in self._recipes:
            preset = model_preset(case.model.name)
            known = known_settings(preset)
            settings = {name: v for name, v in case.model.settings.items() if name in known}
            here = preset.described and case.weights in (DRAWN, COMES_ALONG)
            recipe = Recipe(case.model.name, settings, defenses, case.weights)
            self._recipes[key] = recipe if here else None
        return self._recipes[key]

    def weights_faults(self, case: Case | UtilityCase) -> Iterator[Fault]:
        """Yield that weights which come along are not those of the case."""
        try:
            victim = self.victim(case)
        except PrivbenchError as error:
            yield "weights", f"cannot have the weights that it names: {error}"
            return
        if victim is not None and victim.weights_sha256 == case.weights_sha256:
            return
        if case.weights != COMES_ALONG and self._come_along(case):
            yield (
                "weights",
                f"calls weights {case.weights!r} that come along with {case.model.name}: they are "
                f"its {COMES_ALONG!r} ones.",
            )
            return
        if victim is None or case.weights == DRAWN:  # another version of torch draws otherwise
            self.findings.unbuilt += 1
            return
        yield (
            "weights",
            f"has weights {case.weights_sha256[:12]}, and those that come along with "
            f"{case.model.name} are {victim.weights_sha256[:12]}.",
        )

    def _come_along(self, case: Case | UtilityCase) -> bool:
        """Whether a case's weights are those that come along, whatever it calls them."""
        try:
            victim = self.victim(replace(case, weights=COMES_ALONG))
        except PrivbenchError:  # none come along
            return False
        return victim is not None and victim.weights_sha256 == case.weights_sha256

    def record_faults(self, record: Record, path: Path) -> Iterator[Fault]:
        """Yield where stored answers, pictures and scores do not belong together."""
        try:
            answers = stored_answers(record, path.with_suffix(".npz"))
        except BadData as error:
            yield "answer", f"cannot be scored again. {error}"
            return
        yield from answer_faults(record, answers, inner=self._moves_pixels(record.case))
        if (truth := self._truth(record, answers)) is None:
            self.findings.unseen += 1
        elif isinstance(truth, str):
            yield "pictures", truth
        else:
            images, labels = truth
            yield from self._victim_faults(record, answers, images, labels)
            yield from self._score_faults(record, answers, images)
            yield from proof_faults(record, answers, images)
            yield from picture_faults(path.with_suffix(".png"), answers, images)

    def _moves_pixels(self, case: Case) -> bool:
        """Whether the defense moves pixels inside patches, or may, as its victim is not known."""
        try:
            victim = self.victim(case)
        except PrivbenchError:  # said already
            return True
        if victim is None:
            return True
        rng = torch.Generator().manual_seed(0)
        draw = victim.model.defense.draw(victim.model.vit, 1, rng)
        return isinstance(draw, Draw) and draw.inner is not None

    def _truth(self, record: Record, answers: Answers) -> Batch | str | None:
        """Return the private batch, or what is wrong with it; None of a user's own folder."""
        own = "@" in record.case.dataset.label
        if own and self.data_root is None:
            return None
        try:
            return batch_of(record, answers, self.data_root, self.victims)
        except PrivbenchError as error:
            return f"is of other pictures than are here: {error}"

    def _victim_faults(
        self, record: Record, answers: Answers, images: Images, labels: Int[Tensor, " b"]
    ) -> Iterator[Fault]:
        try:
            victim = self.victim(record.case)
        except PrivbenchError:  # said already
            return
        if victim is None:
            return
        vit = victim.model.vit
        same = np.allclose(answers.mean.reshape(-1), vit.mean.flatten().numpy(), atol=1e-6)
        if not same or (answers.patch, answers.classes) != (vit.patch, vit.classes):
            yield "answer", "stores another mean color, patch or number of classes than its victim."
            return
        case = record.case
        protocol, seed = threat_of(case.threat).protocol, (case.seed, case.images_sha256)
        fed, draw = drawn(victim.model, images, labels, protocol, seed)
        mask = None if draw is None else draw.treated
        stored = images.numpy() if answers.entered is None else answers.entered
        same = mask is None if answers.mask is None else mask is not None
        if mask is not None and answers.mask is not None:
            same = np.array_equal(mask.numpy(), answers.mask)
        if not same or not np.allclose(stored, fed.numpy(), atol=ALIKE):
            yield "answer", f"has a network input and a mask that seed {case.seed} does not draw."

    def _score_faults(self, record: Record, answers: Answers, truth: Images) -> Iterator[Fault]:
        current: dict[str, Metric] = {}
        for name, metric in self.metrics.items():
            if record.metrics.get(name, facts(metric)) == facts(metric):
                current[name] = metric
            else:
                yield (
                    "component",
                    f"has metric {name} of another version than is here: `privbench rescore` "
                    "brings it up to date.",
                )
        if unknown := sorted(record.metrics.keys() - self.metrics.keys()):
            yield "component", f"has metric {unknown[0]}, which this installation has not."
        try:
            yield from _differences(record, marks_of(answers, truth, current))
        except (PrivbenchError, RuntimeError, ValueError) as error:
            yield "answer", f"has answers that cannot be scored: {error}"


def _differences(record: Record, marks: Marks) -> Iterator[Fault]:
    pairs: list[tuple[str, Scores, Scores]] = [
        ("", record.scores, marks.scores),
        (" of the mean color", record.floor, marks.floor),
    ]
    pairs += [
        (f" of member {name}", record.members.get(name, {}), one)
        for name, one in marks.members.items()
    ]
    for where, said, due in pairs:
        for name, values in due.items():
            old = said.get(name)
            if old is None:
                yield "score", f"lacks {name}{where}: `privbench rescore` adds it."
            elif apart := _apart(old, values):
                yield (
                    "score",
                    f"says {apart[0]:.6g} for {name}{where}; its answer has {apart[1]:.6g}.",
                )
        for name in sorted(said.keys() & marks.metrics.keys() - due.keys()):
            yield "score", f"has {name}{where}, which means nothing for its answer."


def _apart(said: list[float | None], due: list[float | None]) -> tuple[float, float] | None:
    """Return the first pair of scores that differ by more than arithmetic."""
    for old, new in zip(said, due, strict=False):
        if old is None or new is None or abs(old - new) > ABSOLUTE + RELATIVE * abs(new):
            return float("nan") if old is None else old, float("nan") if new is None else new
    return None
