"""Records made by hand, so that tables and grids are tested without running anything."""

from collections.abc import Sequence
from typing import Any

from privbench.component import Part, label
from privbench.records.case import Case, Record, Scores
from privbench.records.utility import UtilityCase

FACTS = {"unit": "dB", "higher_is_better": True, "cap": 100.0, "version": 1}


def part(name: str, version: int = 1, **settings: Any) -> Part:
    return Part(name, label(name, settings), version, settings)


def case(
    attack: Part | str = "pe_ls",
    model: Part | str = "vit_mjp",
    images: tuple[int, ...] = (0,),
    *,
    defense: Sequence[Part | str] = ("none",),
    dataset: str = "cifar10",
    control: str | None = "vit_vanilla",
    knows: Sequence[str] = (),
    seed: int = 0,
    weights_sha256: str = "ab" * 32,
) -> Case:
    def known(one: Part | str) -> Part:
        return part(one) if isinstance(one, str) else one

    return Case(
        model=known(model),
        control=control,
        weights="init",
        weights_sha256=weights_sha256,
        defense=tuple(map(known, defense)),
        attack=known(attack),
        dataset=part(dataset),
        images=images,
        images_sha256=f"pixels of {images}",
        threat={"knows": list(knows), "batch_size": len(images)},
        seed=seed,
    )


def done(psnr: Sequence[float] = (10.0,), floor: Sequence[float] = (8.0,), **given: Any) -> Record:
    scores: Scores = {"psnr": list(psnr)}
    return Record(
        case(**given),
        "done",
        scores=scores,
        floor={"psnr": list(floor)},
        metrics={"psnr": FACTS},
        objective=0.5,
        seconds=2.0,
        gradient_calls=3,
    )


def lost(status: Any = "failed", error: str = "ValueError: no", **given: Any) -> Record:
    return Record(case(**given), status, error=error)


def accuracy_case(
    model: Part | str = "vit_mjp", n: int = 2, weights_sha256: str = "ab" * 32
) -> UtilityCase:
    return UtilityCase(
        model=part(model) if isinstance(model, str) else model,
        control="vit_vanilla",
        weights="init",
        weights_sha256=weights_sha256,
        evaluation=part("accuracy"),
        condition={},
        dataset=part("cifar10"),
        n=n,
        images_sha256="pixels",
        seed=0,
    )
