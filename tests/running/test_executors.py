"""A job is data, and no answer depends on who runs it."""

import os
import pickle
import signal
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest
import torch

from privbench.api import execute
from privbench.attack import Attack
from privbench.component import find, make, names
from privbench.errors import BadSetting, UnknownName
from privbench.records.store import Store
from privbench.running import victims as victims_module
from privbench.running.attempt import run_case
from privbench.running.executor import Executor
from privbench.running.executors import processes, ray
from privbench.running.executors.processes import Processes
from privbench.running.listener import Listener
from privbench.running.plan import plan
from privbench.running.runner import run
from privbench.running.shard import belongs, parse_shard
from privbench.running.suite import Suite
from privbench.running.victims import Victims
from tests.commands import caller

CPU = torch.device("cpu")
GIVEN = {"attack": "mean,pe_ls", "model": "vit_vanilla,vit_mjp", "images": "2"}


def suite(**options):
    return Suite.build(GIVEN | options | {"set": ["model.depth=1"]})


def answers(records):
    """All of a record but time and place."""
    return [replace(one, seconds=None, environment={}) for one in records]


def test_the_executors_are_found_by_file_name():
    assert names(Executor.shelf) == ["processes", "ray", "threads"]
    with pytest.raises(UnknownName, match="threads"):
        make(Executor, "thread", {})


def test_a_job_is_small_plain_data_and_gives_the_same_after_a_journey():
    jobs = plan(suite(images="1"), CPU)
    for job in jobs:
        content = pickle.dumps(job)
        assert len(content) < 4000
        assert b"torch" not in content
        record, tensors = run_case(pickle.loads(content), Victims(CPU))
        again, same = run_case(job, Victims(CPU))
        assert answers([record]) == answers([again])
        assert tensors == same


def test_threads_processes_and_shards_give_the_same_records(tmp_path):
    expected = execute(suite(), Store(tmp_path / "threads"), "cpu")
    apart = execute(suite(), Store(tmp_path / "apart"), "cpu", executor="processes", at_once=2)
    assert answers(apart) == answers(expected)
    shards = Store(tmp_path / "shards")
    parts = [execute(suite(), shards, "cpu", shard=f"{i}/3") for i in (1, 2, 3)]
    assert sum(map(len, parts)) == len(expected)
    assert answers(shards.records()) == answers(Store(tmp_path / "threads").records())
    files = [
        {path.name: path.read_bytes() for path in tmp_path.glob(f"{name}/cases/*/*.[np][pn][zg]")}
        for name in ("threads", "apart", "shards")
    ]
    assert len(files[0]) == 2 * len(expected)
    assert files[0] == files[1] == files[2]


def test_every_victim_is_built_once_by_plan_and_run_together(tmp_path, monkeypatch):
    built = []
    plain = victims_module.load

    def count(name, *given):
        built.append(name)
        return plain(name, *given)

    monkeypatch.setattr(victims_module, "load", count)
    models = ["vit_vanilla", "vit_mjp", "vit_shuffle", "vit_unk", "vit_sincos"]
    defenses = ["none", "noise", "clip", "prune", "round"]
    wide = suite(attack="mean", model=models, defense=defenses, images="1")
    records = execute(wide, Store(tmp_path), "cpu")
    assert len(records) == 25
    assert sorted(built) == sorted(models)
    assert len({record.case.defended for record in records}) == 5


def test_a_victim_that_takes_too_much_room_makes_others_go(monkeypatch):
    victims = Victims(CPU)
    monkeypatch.setattr(victims_module, "ROOM", 1)
    first, last = plan(suite(attack="mean", images="1"), CPU, victims)
    assert len(victims._built) == 1
    assert victims.get(last.recipe).model.vit is victims.get(last.recipe).model.vit
    assert victims.get(first.recipe).model.vit is not victims.get(last.recipe).model.vit


def work_or_die(pipe, device, threads):
    """Be killed by the system in the middle of each `pe_ls` whose number is on file."""
    plain, marks = processes.run_together, Path(os.environ["PRIVBENCH_TEST_DEATHS"])

    def run_together(crowd, victims, tick_of):
        for mark in marks.glob(f"{crowd[0].case.attack.name}-*"):
            mark.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        return plain(crowd, victims, tick_of)

    processes.run_together = run_together
    WORK(pipe, device, threads)


WORK = processes.work


@pytest.mark.parametrize(("deaths", "status"), [(1, "done"), (2, "failed")])
def test_a_killed_process_costs_a_second_try_and_then_its_own_case(
    deaths, status, tmp_path, monkeypatch
):
    marks = tmp_path / "marks"
    marks.mkdir()
    for number in range(deaths):
        (marks / f"pe_ls-{number}").touch()
    monkeypatch.setenv("PRIVBENCH_TEST_DEATHS", str(marks))
    monkeypatch.setattr(processes, "work", work_or_die)
    victims, store = Victims(CPU), Store(tmp_path / "out")
    jobs = plan(suite(model="vit_vanilla", images="1"), CPU, victims)
    found = run(jobs, store, Listener(), victims, Processes(at_once=1))
    assert [(one.case.attack.name, one.status) for one in found] == [
        ("mean", "done"),
        ("pe_ls", status),
    ]
    assert ("SIGKILL" in str(found[1].error)) == (status == "failed")
    assert len(list(store.records())) == 2
    assert not list(marks.iterdir())


def test_ray_that_is_not_there_is_told_before_anything_is_planned(tmp_path, monkeypatch, capsys):
    call = caller(monkeypatch, capsys)
    words = ("run", "--attack", "mean", "--model", "vit_vanilla", "--executor", "ray")
    monkeypatch.setattr(ray, "import_module", lambda name: import_module(f"nowhere.{name}"))
    code, _, err = call(*words, "--out", tmp_path / "out")
    assert (code, err.count("\n")) == (2, 1)
    assert "privbench[ray]" in err
    monkeypatch.setattr(ray, "_ray", lambda: None)
    for address in ("127.0.0.1:1", "nowhere.invalid:6379", "ray://127.0.0.1:1", "127.0.0.1:x"):
        code, _, err = call(*words, "--address", address, "--out", tmp_path / "out")
        assert (code, err.count("\n")) == (2, 1)
        assert f"No Ray cluster answers at {address}" in err
    assert not (tmp_path / "out").exists()


def test_only_a_cluster_has_an_address():
    with pytest.raises(UnknownName, match="address"):
        make(Executor, "threads", {"address": "127.0.0.1:6379"})


@pytest.mark.parametrize("text", ["0/3", "4/3", "1", "a/b", "1/0", "-1/3"])
def test_a_shard_that_is_none_is_refused(text):
    with pytest.raises(BadSetting, match="2/3"):
        parse_shard(text)


def test_every_case_falls_to_one_shard():
    keys = [job.case.key for job in plan(suite(images="8"), CPU)]
    for key in keys:
        assert sum(belongs(key, i, 3) for i in (1, 2, 3)) == 1
    assert len({i for key in keys for i in (1, 2, 3) if belongs(key, i, 3)}) == 3


def test_a_nested_attacks_version_is_part_of_the_key():
    (job,) = plan(suite(attack="jigsaw", model="vit_vanilla", images="1"), CPU)
    version = find(Attack, "pe_ls").version
    assert job.case.nested == {"pe_ls": version}
    raised = replace(job.case, nested={"pe_ls": version + 1})
    assert raised.key != job.case.key
    assert raised.age > job.case.age > replace(job.case, nested={}).age
