"""Several cases at once: the same answers, one victim, and an end when it is asked for."""

import threading
import time

import pytest
import torch

from privbench.api import execute
from privbench.attacks._matching.engine import Matching
from privbench.attacks.mean import MeanColor
from privbench.errors import Unwritable
from privbench.records.store import Store
from privbench.running.attempt import run_case, run_together
from privbench.running.environment import lanes
from privbench.running.executor import crowds
from privbench.running.listener import Listener
from privbench.running.plan import plan
from privbench.running.suite import Suite
from privbench.running.victims import Victims

CPU = torch.device("cpu")


def run(folder, at_once, listener=None, **options):
    given = {"attack": "mean,gradinv_published", "model": "vit_mjp", "images": "6"} | options
    short = ["attack.steps=5"] if "gradinv" in given["attack"] else []
    suite = Suite.build(given | {"set": ["model.depth=1", *short]})
    return execute(suite, Store(folder), "cpu", listener, at_once=at_once)


def answers(records):
    return [(r.case.key, r.status, r.scores, r.objective, r.masked) for r in records]


def test_how_many_run_at_once_changes_no_answer(tmp_path):
    alone = run(tmp_path / "one", 1)
    together = run(tmp_path / "three", 3)
    assert answers(alone) == answers(together)
    pictures = [
        sorted(p.read_bytes() for p in tmp_path.glob(f"{n}/cases/*/*.png"))
        for n in ("one", "three")
    ]
    assert pictures[0] == pictures[1]


def test_cases_really_run_at_once(tmp_path, monkeypatch):
    meeting = threading.Barrier(3, timeout=20)
    reconstruct = MeanColor.reconstruct

    def meet(self, seen, rng, tick):
        meeting.wait()  # breaks, and the case fails, unless three arrive
        return reconstruct(self, seen, rng, tick)

    monkeypatch.setattr(MeanColor, "reconstruct", meet)
    records = run(tmp_path, 3, attack="mean")
    assert [record.status for record in records] == ["done"] * 6


def test_a_failing_write_ends_the_attacks_in_flight(tmp_path, monkeypatch):
    reconstruct, started = MeanColor.reconstruct, []

    def endless(self, seen, rng, tick):
        started.append(time.monotonic())
        if len(started) > 1:
            while True:
                tick(0, 1, 0.0)
                time.sleep(0.01)
        return reconstruct(self, seen, rng, tick)

    def full(self, record, picture=None, answers=None):
        raise Unwritable("the disk is full")

    monkeypatch.setattr(MeanColor, "reconstruct", endless)
    monkeypatch.setattr(Store, "put", full)
    with pytest.raises(Unwritable, match="full"):
        run(tmp_path, 2, attack="mean")
    assert len(started) < 6


def test_every_case_begins_ticks_and_ends(tmp_path):
    heard = {"begins": [], "ticks": [], "ends": []}

    class Ear(Listener):
        def begins(self, case):
            heard["begins"].append(case.key)

        def ticks(self, case, done, steps, objective):
            heard["ticks"].append(case.key)

        def ends(self, record):
            heard["ends"].append(record.case.key)

    keys = {record.case.key for record in run(tmp_path, 2, Ear())}
    assert len(keys) == 12
    for what, found in heard.items():
        assert set(found) == keys, what


@pytest.mark.parametrize(
    ("size", "wish", "expected"), [(100, None, 4), (10**6, None, 1), (100, 3, 3)]
)
def test_small_cases_take_a_core_each_and_large_ones_all_of_them(monkeypatch, size, wish, expected):
    threads = []
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    with lanes(CPU, size, wish) as count:
        assert count == expected
    assert threads == [1 if size == 100 else 4, 4]


def test_an_accelerator_runs_one_case_at_a_time():
    with lanes(torch.device("cuda"), 100, None) as count:
        assert count == 1


def side_by_side(**options):
    given = {"attack": "gradinv_published", "model": "vit_mjp", "images": "3"} | options
    suite = Suite.build(given | {"set": ["model.depth=1", "attack.steps=5"]})
    victims = Victims(CPU)
    return plan(suite, CPU, victims), victims


def test_an_attack_that_can_takes_its_cases_side_by_side():
    jobs, _ = side_by_side(attack="mean,gradinv_published,gradinv")
    found = [{job.case.attack.name for job in crowd} for crowd in crowds(jobs, "cuda")]
    assert found.count({"mean"}) == 3
    assert found.count({"gradinv"}) == found.count({"gradinv_published"}) == 1
    assert all(len(crowd) == 1 for crowd in crowds(jobs, "cpu"))


def test_a_case_in_company_says_so_and_is_what_it_is_alone():
    jobs, victims = side_by_side()
    company = run_together(jobs, victims)
    for job, (record, _) in zip(jobs, company, strict=True):
        alone, _ = run_case(job, Victims(CPU))
        assert record.case.key == alone.case.key
        assert record.objective == pytest.approx(alone.objective, rel=1e-3)
        assert record.gradient_calls == alone.gradient_calls
        assert record.environment["cases at once"] == "3"
        assert "cases at once" not in alone.environment


def test_an_error_in_company_stays_one_cases_own(monkeypatch):
    jobs, victims = side_by_side()
    many = Matching.reconstruct_many

    def fail(self, seen, rngs, ticks):
        if len(seen) > 1 or len(failed) < 1:
            failed.append(len(seen))
            raise ValueError("no")
        return many(self, seen, rngs, ticks)

    failed: list[int] = []
    monkeypatch.setattr(Matching, "reconstruct_many", fail)
    assert [r.status for r, _ in run_together(jobs, victims)] == ["done"] * 3
    assert failed == [3]
    failed.clear()
    assert [r.status for r, _ in run_together(jobs[:1], victims)] == ["failed"]


def test_rows_side_by_side_in_several_threads_change_no_answer(tmp_path):
    """Eight restarts go through torch.func, which replaces weights for a moment."""
    options = {"attack": "gradinv_published", "images": "3"}
    found = []
    for at_once in (1, 3):
        suite = Suite.build(
            {"model": "vit_mjp", **options}
            | {"set": ["model.depth=1", "attack.steps=3", "attack.restarts=8"]}
        )
        found.append(execute(suite, Store(tmp_path / str(at_once)), "cpu", at_once=at_once))
    assert answers(found[0]) == answers(found[1])
