"""Trains what has no record yet, defense by defense, and writes the tables."""

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean

import torch

from privbench.errors import NotFinite
from privbench.observation import PublicModel
from privbench.price.federation import timed, train
from privbench.price.plan import Request, Task, plan
from privbench.price.protocol import Form
from privbench.price.start import put
from privbench.price.table import price_tables
from privbench.records.price import PriceRecord, PriceStore
from privbench.running.environment import describe
from privbench.running.environment import device as pick
from privbench.running.finish import finish
from privbench.running.victims import Victims
from privbench.seeds import generator
from privbench.training.split import Split

Report = Callable[[str, int, int], None]
"""Called with what is under way, the steps that are done, and all of them."""
TESTED_AT_ONCE = 100
"""Test pictures, so that a batch of 224 px fits into memory."""


def price(
    request: Request, form: Form, device: str, out: Path, report: Report
) -> list[PriceRecord]:
    """Return a record for each victim and defense, with the undefended one; those on record stay.

    Writes price.csv and joined/price.csv from all records under out, however the run ends. Raises
    PrivbenchError before the first step where a name, a setting or a folder is wrong.
    """
    victims, store = Victims(pick(device)), PriceStore(out)

    def make(task: Task, earlier: Sequence[PriceRecord]) -> PriceRecord:
        return _priced(task, victims, store, earlier, report)

    return finish(plan(request, form, victims), store, make, price_tables)


def forecast(
    request: Request, form: Form, device: str, out: Path
) -> list[tuple[Task, float | None]]:
    """Return what would run, each with the seconds of its steps by a first one; None on record."""
    victims, store = Victims(pick(device)), PriceStore(out)
    found: list[tuple[Task, float | None]] = []
    for task in plan(request, form, victims):
        if store.get(task.case) is not None:
            found.append((task, None))
            continue
        model = _model(task, victims)
        once = timed(model, task.train, form.steps, task.case.seed)
        found.append((task, once * form.steps))
    return found


def _model(task: Task, victims: Victims) -> PublicModel:
    """Return a victim of its own at the start: others share the one in the cache."""
    model = victims.get(task.recipe).model
    vit = copy.deepcopy(model.vit)
    put(vit, task.start)
    return PublicModel(vit, model.defense)


def _priced(
    task: Task,
    victims: Victims,
    store: PriceStore,
    earlier: Sequence[PriceRecord],
    report: Report,
) -> PriceRecord:
    case, model = task.case, _model(task, victims)
    steps = int(case.price.settings["steps"])
    same = not model.defense.changes("equip") or case.undefended
    bare = {one.case.start_sha256: one.before for one in earlier if one.case.undefended}
    start = bare.get(case.start_sha256) if same else None
    if start is None:
        start = sum(answers(model, task.test, case.n))

    def tick(done: int) -> None:
        report(task.title, done, steps)

    place = store.path(case, ".safetensors")
    found = train(model, task.train, steps, case.seed, place, case.key, tick)
    right = answers(model, task.test, case.n)
    return PriceRecord(
        case,
        right="".join(str(int(one)) for one in right),
        before=start,
        sent=fmean(found.sent),
        entries=found.entries,
        seconds=found.seconds / steps,
        environment=describe(model.vit.mean.device),
        warnings=task.notes,
    )


@torch.no_grad()
def answers(model: PublicModel, test: Split, n: int) -> list[bool]:
    """Return of n test pictures, the same for every case, which are answered right.

    Without the defense's random draws, as in evaluation. Raises NotFinite.
    """
    chosen = torch.randperm(len(test), generator=generator("price", "test"))[:n].tolist()
    right: list[bool] = []
    for place in range(0, n, TESTED_AT_ONCE):
        images, labels = test.load(chosen[place : place + TESTED_AT_ONCE])
        logits = model.logits(images.to(model.vit.mean.device)).cpu()
        if not logits.isfinite().all():
            raise NotFinite(
                "After the last step the model answers a test picture with NaN or infinity, so "
                "there is no accuracy. Choose weaker settings of the defense."
            )
        right += (logits.argmax(1) == labels).tolist()
    return right
