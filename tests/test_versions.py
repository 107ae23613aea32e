"""No component changes its results in silence: code, version and golden answers are pinned."""

import ast

import pytest

from tests import versions


def text(code: str) -> str:
    return versions.text_of(ast.parse(code))


@pytest.mark.parametrize("component", versions.components())
def test_code_and_version_are_the_pinned_ones(component):
    reason = versions.complaint(component, versions.read(versions.PINS))
    assert reason is None, reason


def test_nothing_is_pinned_that_is_not_there():
    assert set(versions.read(versions.PINS)) == set(versions.components())


def test_every_attack_defense_and_metric_has_golden_answers():
    known = versions.read(versions.ANSWERS)
    assert {one for one in versions.components() if versions.has_cases(one)} == set(known)


def test_comments_and_docstrings_are_no_change_but_a_number_is():
    plain = text("def f():\n    return 1 + 2\n")
    assert text('"""A page."""\ndef f():\n    """Add."""\n    return 1 + 2  # three\n') == plain
    assert text("def f():\n    return 1 + 3\n") != plain


def test_a_digest_covers_shared_folders_and_siblings_but_not_the_extension_api():
    found = versions.closure("privbench.attacks.gradinv")
    assert "privbench.attacks._matching.descent" in found
    assert not any(name.count(".") == 1 for name in found)
    assert "privbench.metrics._formulas" in versions.closure("privbench.metrics.psnr_masked")
    assert "privbench.corruptions.noise" in versions.closure("privbench.evals.cifar10_c_regen")


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"digest": "other"}, "did not"),
        ({"version": 0, "digest": "other"}, "new version"),
        ({"version": 99}, "lower version"),
    ],
)
def test_a_change_is_answered_by_a_sentence(change, word):
    pins = {"attacks/mean": versions.pin_of("attacks/mean") | change}
    assert word in str(versions.complaint("attacks/mean", pins))
    assert "not pinned yet" in str(versions.complaint("attacks/mean", {}))


@pytest.fixture
def pinned(tmp_path, monkeypatch):
    """Files of the test's own in which everything is as it is now."""
    for name in ("PINS", "ANSWERS"):
        content = versions.read(getattr(versions, name))
        monkeypatch.setattr(versions, name, tmp_path / f"{name}.json")
        versions.write(tmp_path / f"{name}.json", content)
    return tmp_path


def spoil(component, **change):
    pins = versions.read(versions.PINS)
    pins[component] |= change
    versions.write(versions.PINS, pins)


def test_equal_answers_are_enough_for_a_new_pin(pinned):
    spoil("attacks/mean", digest="other")
    assert versions.pin(["attacks/mean"], unproved=False) == []
    assert versions.complaint("attacks/mean", versions.read(versions.PINS)) is None


def test_other_answers_need_a_raised_version(pinned, monkeypatch):
    spoil("attacks/mean", digest="other")
    monkeypatch.setattr(versions, "answers", lambda *_: {"vit_vanilla": [1.0], "vit_mjp": [2.0]})
    (refused,) = versions.pin(["attacks/mean"], unproved=False)
    assert "Raise its version" in refused
    spoil("attacks/mean", digest="other", version=0)
    assert versions.pin(["attacks/mean"], unproved=False) == []
    assert versions.read(versions.ANSWERS)["attacks/mean"]["vit_vanilla"] == [1.0]


def test_what_has_no_golden_case_is_not_pinned_unasked(pinned):
    spoil("evals/accuracy", digest="other")
    (refused,) = versions.pin(["evals/accuracy"], unproved=False)
    assert "--unproved" in refused
    assert versions.pin(["evals/accuracy"], unproved=True) == []
