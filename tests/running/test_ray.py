"""Threads, merged shards and Ray give one table to the byte, whoever is killed on the way.

Run with `make test-ray`, which installs Ray.
"""

import io
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pandas as pd
import psutil
import pytest

from privbench.api import execute
from privbench.records.case import Case, Record
from privbench.records.store import Store
from privbench.running.listener import Listener
from privbench.running.suite import Suite
from privbench.submission.merge import merge

pytestmark = [
    pytest.mark.ray,
    # Ray's own: sockets and pipes to processes that were killed
    pytest.mark.filterwarnings("ignore"),
]
ROOT = Path(__file__).parents[2]
BUSY = "ray::work"
"""How Ray titles a worker in a task of ours."""
GIVEN = {"attack": "mean,pe_ls,gradinv", "model": "vit_vanilla,vit_mjp", "images": "3"}
CASES = 18


def suite() -> Suite:
    return Suite.build(GIVEN | {"set": ["model.depth=1", "attack.steps=100"]})


def table(folder: Path) -> bytes:
    """The CSV's lines, sorted, without the seconds, which no two runs share."""
    found = pd.read_csv(folder / "leaderboard.csv", dtype=str).drop(columns="seconds")
    text = io.StringIO()
    found.to_csv(text, index=False)
    return "\n".join(sorted(text.getvalue().splitlines())).encode()


def answers(folder: Path) -> dict[str, object]:
    """Each record but for time and place, and the files beside it."""
    store = Store(folder)
    return {
        one.case.key: (
            replace(one, seconds=None, environment={}),
            store.path(one.case, ".npz").read_bytes(),
            store.path(one.case, ".png").read_bytes(),
        )
        for one in store.survey()[0]
    }


class Killer(Listener):
    """Kills whom it is given, by SIGKILL, when so many records are there; tells of it."""

    def __init__(self, above: psutil.Process, title: str, after: tuple[int, ...]) -> None:
        self.above, self.title, self.after = above, title, after
        self.ended: list[Record] = []
        self.begun, self.log = 0, []
        self.heard: dict[str, list[int]] = {}
        self.start = time.monotonic()

    def begins(self, case: object) -> None:
        self.begun += 1

    def ticks(self, case: Case, done: int, steps: int, objective: float) -> None:
        assert 0 < done <= steps
        self.heard.setdefault(case.attack.name, []).append(done)

    def ends(self, record: Record) -> None:
        self.ended.append(record)
        if len(self.ended) in self.after:
            self.kill()

    def kill(self) -> None:
        limit = time.monotonic() + 60
        while time.monotonic() < limit:
            for one in self.above.children(recursive=True):
                try:
                    title = " ".join(one.cmdline())
                    if self.title in title:
                        one.send_signal(signal.SIGKILL)
                        at = time.monotonic() - self.start
                        name = title.split()[0].rpartition("/")[2]
                        self.log.append(
                            f"{at:.1f} s: SIGKILL to {one.pid} ({name}) after "
                            f"{len(self.ended)} of {CASES} records"
                        )
                        return
                except psutil.Error:
                    continue
            time.sleep(0.01)


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """By threads, and nobody is killed."""
    folder = tmp_path_factory.mktemp("calm")
    assert len(execute(suite(), Store(folder), "cpu")) == CASES
    return folder


def test_three_shards_merged_are_the_whole(calm, tmp_path):
    parts = [tmp_path / str(number) for number in (1, 2, 3)]
    for number, part in enumerate(parts, 1):
        execute(suite(), Store(part), "cpu", shard=f"{number}/3")
    merge(parts, tmp_path / "whole")
    assert table(tmp_path / "whole") == table(calm)
    assert answers(tmp_path / "whole") == answers(calm)


def test_workers_that_are_killed_leave_no_trace(calm, tmp_path):
    killer = Killer(psutil.Process(), BUSY, after=(2, 6))
    execute(suite(), Store(tmp_path), "cpu", killer, executor="ray", at_once=2)
    sys.stdout.write("\n".join(killer.log))
    assert len(killer.log) == 2
    assert any(done < 100 for done in killer.heard["gradinv"]), "nothing tells how far a case is"
    assert [one.status for one in killer.ended] == ["done"] * CASES
    assert table(tmp_path) == table(calm)
    assert answers(tmp_path) == answers(calm)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def start(*words: str) -> subprocess.Popen[bytes]:
    """Start a node that lives as long as its process."""
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--num-cpus=1"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [*command, "--disable-usage-stats", *words],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


@pytest.fixture
def cluster() -> Iterator[tuple[str, psutil.Process]]:
    """Two nodes on the loopback: their address, and the process of the second."""
    # Ray takes the loopback for this computer's own address, and listens there
    address = f"{import_module('ray').util.get_node_ip_address()}:{free_port()}"
    with tempfile.TemporaryDirectory(prefix="r", dir="/tmp", ignore_cleanup_errors=True) as folder:
        head = ["--head", f"--port={address.rpartition(':')[2]}", f"--temp-dir={folder}"]
        team = [start(*head, "--include-dashboard=false")]
        try:
            wait_for_port(address)
            team.append(start(f"--address={address}"))
            wait_for_nodes(address, 2)
            yield address, psutil.Process(team[1].pid)
        finally:
            for one in team:
                below = psutil.Process(one.pid).children(recursive=True)
                for process in [*below, psutil.Process(one.pid)]:
                    try:
                        process.kill()
                    except psutil.Error:
                        continue
                one.wait()


def wait_for_port(address: str) -> None:
    host, _, port = address.partition(":")
    limit = time.monotonic() + 180
    while True:
        try:
            return socket.create_connection((host, int(port)), 1).close()
        except OSError:
            assert time.monotonic() < limit, "the head never came up"
            time.sleep(0.2)


def wait_for_nodes(address: str, count: int) -> None:
    ray, limit = import_module("ray"), time.monotonic() + 180
    ray.init(address, log_to_driver=False)
    try:
        while sum(one["Alive"] for one in ray.nodes()) < count:
            assert time.monotonic() < limit, f"{count} nodes never came up"
            time.sleep(0.2)
    finally:
        ray.shutdown()


def test_two_nodes_of_which_one_dies_give_the_same(calm, tmp_path, cluster):
    address, second = cluster
    killer = Killer(second, "raylet/raylet", after=(4,))
    execute(suite(), Store(tmp_path), "cpu", killer, executor="ray", address=address)
    sys.stdout.write("\n".join(killer.log))
    assert len(killer.log) == 1
    assert [one.status for one in killer.ended] == ["done"] * CASES
    assert table(tmp_path) == table(calm)
    assert answers(tmp_path) == answers(calm)
