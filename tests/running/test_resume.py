"""A run goes on where it stopped, and one crash costs one row."""

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch

from privbench.api import execute
from privbench.attacks.mean import MeanColor
from privbench.attacks.pe_ls import PositionLeastSquares
from privbench.records.store import Store
from privbench.reports.leaderboard import leaderboard, to_csv
from privbench.running.listener import Listener
from privbench.running.suite import Suite
from privbench.threat import Reconstruction

ROOT = Path(__file__).parents[2]


class Ear(Listener):
    """Remembers what it heard."""

    def __init__(self) -> None:
        self.begun, self.ended, self.plans = [], [], []

    def planned(self, cases, kept):
        self.plans.append((cases, kept))

    def begins(self, case):
        self.begun.append((case.attack.name, case.model.name, *case.images))

    def ends(self, record):
        self.ended.append(record)


def run(folder, ear=None, *, retry=False, at_once=None, **options):
    given = {"attack": "mean,pe_ls", "model": "vit_vanilla", "images": "2"} | options
    suite = Suite.build(given | {"set": ["model.depth=1"]})
    return execute(suite, Store(folder), "cpu", ear or Ear(), retry_failed=retry, at_once=at_once)


def test_a_second_run_computes_nothing_and_gives_the_same(tmp_path):
    first = run(tmp_path)
    table = (tmp_path / "leaderboard.csv").read_bytes()
    ear = Ear()
    again = run(tmp_path, ear)
    assert ear.begun == []
    assert ear.plans == [(4, 4)]
    assert [record.to_json() for record in again] == [record.to_json() for record in first]
    assert (tmp_path / "leaderboard.csv").read_bytes() == table


def test_more_images_run_only_what_is_missing(tmp_path):
    run(tmp_path)
    ear = Ear()
    assert len(run(tmp_path, ear, images="3")) == 6
    assert ear.begun == [("mean", "vit_vanilla", 2), ("pe_ls", "vit_vanilla", 2)]


def test_other_settings_are_other_cases(tmp_path):
    run(tmp_path)
    ear = Ear()
    run(tmp_path, ear, seed=1)
    assert len(ear.begun) == 4


def test_a_torn_record_is_computed_anew(tmp_path):
    first = run(tmp_path)
    path = Store(tmp_path).path(first[1].case)
    path.write_bytes(path.read_bytes()[:-20])
    ear = Ear()
    again = run(tmp_path, ear)
    assert ear.begun == [("pe_ls", "vit_vanilla", 0)]
    assert again[1].scores == first[1].scores


def flat(seen, value=0.5, shape=None, **changes):
    return Reconstruction(torch.full(shape or seen.shape, value, **changes), objective=0.0)


def crash(self, seen, rng, tick):
    raise RuntimeError("the solver gave up")


CRASHES = {
    "RuntimeError: the solver gave up": crash,
    "NaN or infinity": lambda self, seen, rng, tick: flat(seen, float("nan")),
    "leaves [0, 1]": lambda self, seen, rng, tick: flat(seen, 1.5),
    "shape (1, 3, 16, 16) instead of": lambda self, seen, rng, tick: flat(
        seen, shape=(1, 3, 16, 16)
    ),
    "not a detached float32": lambda self, seen, rng, tick: flat(seen, requires_grad=True),
    "float32 tensor": lambda self, seen, rng, tick: flat(seen, dtype=torch.float64),
    "AttributeError": lambda self, seen, rng, tick: None,
}


@pytest.mark.parametrize("error", CRASHES)
def test_a_crash_is_a_failed_record_and_the_others_go_on(error, tmp_path, monkeypatch):
    monkeypatch.setattr(MeanColor, "reconstruct", CRASHES[error])
    found = run(tmp_path)
    assert [record.status for record in found] == ["failed", "done"] * 2
    assert error in str(found[0].error)
    table = pd.read_csv(tmp_path / "leaderboard.csv").set_index("attack")
    assert table.loc["mean", "failed"] == 2
    assert error in str(table.loc["mean", "notes"])
    assert table.loc["pe_ls", "n"] == 2


def test_a_failed_case_is_run_again_only_if_asked(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(MeanColor, "reconstruct", crash)
        run(tmp_path)
    ear = Ear()
    assert [record.status for record in run(tmp_path, ear)] == ["failed", "done"] * 2
    assert ear.begun == []
    assert [record.status for record in run(tmp_path, ear, retry=True)] == ["done"] * 4
    assert ear.begun == [("mean", "vit_vanilla", 0), ("mean", "vit_vanilla", 1)]
    assert set(pd.read_csv(tmp_path / "leaderboard.csv")["failed"]) == {0}


def test_a_refused_attack_is_a_row_and_stops_nobody(tmp_path):
    found = run(tmp_path, model="vit_nope,vit_vanilla", images="1")
    assert [record.status for record in found] == ["done", "refused", "done", "done"]
    table = pd.read_csv(tmp_path / "leaderboard.csv").set_index(["model", "attack"])
    row = table.loc[("vit_nope(depth=1)", "pe_ls")]
    assert (row["n"], row["refused"]) == (0, 1)
    assert "reads the gradient of backbone.pos_embed" in str(row["notes"])


def test_the_order_of_work_changes_no_result(tmp_path):
    one = run(tmp_path / "a", model="vit_vanilla,vit_mjp", images="0,1,2")
    two = run(tmp_path / "b", model="vit_mjp,vit_vanilla", images="2,0,1", attack="pe_ls,mean")
    assert [r.case.key for r in one] != [r.case.key for r in two]
    scores = [{r.case.key: (r.scores, r.objective, r.masked) for r in run} for run in (one, two)]
    assert scores[0] == scores[1]
    tables = [leaderboard(found).drop(columns="seconds") for found in (one, two)]
    pd.testing.assert_frame_equal(tables[0], tables[1])


def test_a_stopped_run_has_written_its_table(tmp_path, monkeypatch):
    def stop(self, seen, rng, tick):
        raise KeyboardInterrupt

    monkeypatch.setattr(PositionLeastSquares, "reconstruct", stop)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, at_once=1)
    [attack] = pd.read_csv(tmp_path / "leaderboard.csv")["attack"]
    assert attack == "mean"


def test_what_is_printed_is_what_is_on_file(tmp_path):
    found = run(tmp_path, model="vit_vanilla,vit_mjp", images="4")
    assert to_csv(leaderboard(found)) == (tmp_path / "leaderboard.csv").read_bytes()


KILLER = '''
"""Forks runs of one suite and kills them; prints records before and after each kill."""
import json, os, random, signal, sys, time
from pathlib import Path

import torch

from privbench.api import execute
from privbench.attacks.mean import MeanColor
from privbench.attacks.pe_ls import PositionLeastSquares
from privbench.records.case import Record
from privbench.records.store import Store
from privbench.running.suite import Suite

torch.set_num_threads(1)
SLEEP, SYNC = 0.02, 0.006  # added to each attack, and to each of the three files of a case
folder, calm = Path(sys.argv[1]), Path(sys.argv[2])
dice = random.Random(5)
suite = Suite.build(
    {"attack": "mean,pe_ls", "model": "vit_vanilla", "images": "20", "set": ["model.depth=1"]}
)


def slow(kind):
    plain = kind.reconstruct
    kind.reconstruct = lambda *given: (time.sleep(SLEEP), plain(*given))[1]


def sync(handle, plain=os.fsync):
    time.sleep(SYNC)  # so that some kills strike while a file is being written
    plain(handle)


def found():
    return {path.name: path.read_text() for path in folder.glob("cases/*/*.json")}


def start():
    if (child := os.fork()) == 0:
        code = 1
        try:
            execute(suite, Store(folder), "cpu")
            code = 0
        finally:
            os._exit(code)
    return child


execute(Suite.build({"attack": "mean", "model": "vit_vanilla"}), Store(calm / "warm"), "cpu")
begun = time.monotonic()
execute(suite, Store(calm), "cpu")
case = (time.monotonic() - begun) / 40 + SLEEP + 3 * SYNC
slow(MeanColor), slow(PositionLeastSquares)
os.fsync = sync
for kill in range(20):
    before = found()
    child = start()
    if kill % 5 == 4:  # somewhere between its start and its first cases
        time.sleep(dice.uniform(0, 0.15))
    else:  # somewhere in a case, or in the writing of its picture or record
        limit = time.monotonic() + 20
        while len(list(folder.glob("cases/*/*.json"))) == len(before) < 40:
            assert time.monotonic() < limit, "no progress"
            time.sleep(0.001)
        time.sleep(dice.uniform(0, 2 * case))
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    after = found()
    for text in after.values():
        Record.from_json(text)
    assert not Store(folder).broken()
    assert all(after.get(name) == text for name, text in before.items()), "a record was lost"
    assert all(Store(folder).path(r.case, ".png").is_file() for r in Store(folder).records())
    print(json.dumps([len(before), len(after), os.WIFSIGNALED(status)]), flush=True)
os.fsync = sync.__defaults__[0]
_, status = os.waitpid(start(), 0)
assert status == 0
'''


def test_twenty_kills_lose_no_record_and_leave_no_trace_in_the_table(tmp_path):
    killed, calm = tmp_path / "killed", tmp_path / "calm"
    result = subprocess.run(
        [sys.executable, "-c", KILLER, killed, calm],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={"OMP_NUM_THREADS": "1", "PATH": ""},
    )
    assert result.returncode == 0, result.stdout + result.stderr
    kills = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(kills) == 20
    assert sum(before < after < 40 and struck for before, after, struck in kills) >= 10
    assert len(list(Store(killed).records())) == 40
    tables = [
        pd.read_csv(one / "leaderboard.csv", dtype=str).drop(columns="seconds")
        for one in (killed, calm)
    ]
    pd.testing.assert_frame_equal(tables[0], tables[1])
    assert tables[0]["n"].tolist() == ["20", "20"]
