"""Old records get new scores from their lossless answers; no attack runs."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from privbench.api import execute
from privbench.attacks.mean import MeanColor
from privbench.errors import UnknownName
from privbench.metrics.mse import MSE
from privbench.records.answers import Answers, digest, unpack
from privbench.records.store import Store
from privbench.running.rescore import rescore
from privbench.running.suite import Suite

CPU = torch.device("cpu")
GIVEN = {"attack": "mean", "model": "vit_mjp", "images": "2", "batch_size": 2}


def run(folder, **options):
    suite = Suite.build(GIVEN | options | {"set": ["model.depth=1"]})
    return execute(suite, Store(folder), "cpu")


def without(record, name):
    """The record as it was before a metric was there."""
    return replace(
        record,
        scores={key: one for key, one in record.scores.items() if key != name},
        floor={key: one for key, one in record.floor.items() if key != name},
        metrics={key: one for key, one in record.metrics.items() if key != name},
        members={
            member: {key: one for key, one in scores.items() if key != name}
            for member, scores in record.members.items()
        },
    )


@pytest.fixture
def never(monkeypatch):
    def fail(*_):
        raise AssertionError("an attack ran")

    return lambda: monkeypatch.setattr(MeanColor, "reconstruct", fail)


@pytest.mark.parametrize("name", ["ssim", "psnr_masked", "psnr_fed", "placed"])
def test_a_metric_that_was_not_there_gets_the_same_scores_as_if_it_had_been(name, tmp_path, never):
    (record,) = run(tmp_path)
    assert name in record.scores
    Store(tmp_path).put(without(record, name))
    never()
    outcome = rescore(Store(tmp_path), [], None, CPU)
    assert (outcome.changed, outcome.current, outcome.left) == (1, 0, {})
    assert list(Store(tmp_path).records()) == [record]


def test_members_of_an_ensemble_are_scored_too(tmp_path):
    suite = Suite.build(
        {"attack": "auto", "model": "vit_vanilla", "images": "1"}
        | {"set": ["model.depth=1", "attack.tier=smoke"]}
    )
    (record,) = execute(suite, Store(tmp_path), "cpu")
    assert len(record.members) > 1
    Store(tmp_path).put(without(record, "ssim"))
    assert rescore(Store(tmp_path), ["ssim"], None, CPU).changed == 1
    assert list(Store(tmp_path).records()) == [record]


def test_a_new_version_of_a_metric_replaces_its_scores_alone(tmp_path, monkeypatch):
    (record,) = run(tmp_path)
    monkeypatch.setattr(MSE, "version", 2)
    monkeypatch.setattr(MSE, "score", lambda self, found, target: torch.tensor([1.0, 2.0]))
    rescore(Store(tmp_path), [], None, CPU)
    (again,) = Store(tmp_path).records()
    assert again.scores == {**record.scores, "mse": [1.0, 2.0]}
    assert again.metrics["mse"]["version"] == 2
    assert replace(again, scores={}, floor={}, metrics={}) == replace(
        record, scores={}, floor={}, metrics={}
    )


def test_what_is_up_to_date_stays_and_other_metrics_are_left_alone(tmp_path):
    (record,) = run(tmp_path)
    path = Store(tmp_path).path(record.case)
    before = path.read_bytes()
    assert rescore(Store(tmp_path), [], None, CPU).current == 1
    assert path.read_bytes() == before
    Store(tmp_path).put(without(record, "ssim"))
    assert rescore(Store(tmp_path), ["mse"], None, CPU).current == 1
    with pytest.raises(UnknownName, match="ssim"):
        rescore(Store(tmp_path), ["simm"], None, CPU)


def spoil(store, record):
    store.path(record.case, ".npz").write_bytes(b"PK\x03\x04")


def remove(store, record):
    store.path(record.case, ".npz").unlink()


def forget(store, record):
    store.put(replace(record, answers_sha256=""))


@pytest.mark.parametrize(
    ("change", "word"),
    [(spoil, "was edited"), (remove, "missing"), (forget, "no answers were stored")],
)
def test_without_the_answers_a_record_stays_and_a_sentence_says_why(change, word, tmp_path):
    (record,) = run(tmp_path)
    Store(tmp_path).put(without(record, "mse"))
    change(Store(tmp_path), without(record, "mse"))
    outcome = rescore(Store(tmp_path), [], None, CPU)
    assert outcome.changed == 0
    assert word in next(iter(outcome.left))
    assert "mse" not in next(Store(tmp_path).records()).scores


def test_other_pictures_under_the_same_numbers_are_not_scored(tmp_path, monkeypatch):
    (record,) = run(tmp_path)
    Store(tmp_path).put(without(record, "mse"))
    monkeypatch.setattr("privbench.running.victims.fingerprint", lambda *_: "other")
    outcome = rescore(Store(tmp_path), [], None, CPU)
    assert outcome.changed == 0
    assert "not those" in next(iter(outcome.left))


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(0, 1, width=32), min_size=12, max_size=12))
def test_answers_come_back_bit_by_bit(values):
    images = np.array(values, np.float32).reshape(1, 3, 2, 2)
    mean = np.full((3, 1, 1), 0.1, np.float32)
    mask = np.array([[True, False, False, True]])
    packed = Answers(images, mean, 1, 10, {"a/b": images}, images, mask).pack()
    found = unpack(packed, digest(packed))
    assert found is not None
    for one in (found.images, found.members["a/b"], found.entered):
        assert one is not None
        assert one.tobytes() == images.tobytes()
    assert found.mask is not None
    assert found.mask.tolist() == [[True, False, False, True]]
    assert unpack(packed, "another digest") is None
