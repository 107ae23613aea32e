"""Numbers that are none: no evaluation makes a figure of them, wherever they stand."""

from dataclasses import replace
from math import inf, nan

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from privbench.component import make, names
from privbench.errors import NotFinite
from privbench.evaluation import Evaluation
from privbench.utility import run
from privbench.utility.calibration import aurra, calibration, rms_error
from privbench.utility.detection import detection
from privbench.utility.plan import Request, plan_passes
from tests.commands import caller

CPU = torch.device("cpu")
SHALLOW = ("model.depth=1", "model.embed_dim=16", "model.num_heads=2")
COUNT = 4
BAD = (nan, inf, -inf)
OWN = """
import torch
from torch import nn

class Net(nn.Module):
    img_size = 32

    def forward(self, images):
        logits = images.mean((2, 3)).repeat(1, 4)[:, :10]
        if len(logits) > 1:
            logits[1, 3] = float(VALUE)
        return logits

def net():
    return Net()
"""


@pytest.fixture(scope="module")
def one_pass():
    """A pass over four pictures, whose evaluation the tests exchange."""
    request = Request(
        ("vit_mjp",), ("accuracy",), assignments=SHALLOW, images=COUNT, weights="init"
    )
    (found,) = plan_passes(request, CPU)
    return found


@pytest.mark.parametrize("columns", [None, (0, 2, 5)])
@pytest.mark.parametrize("name", names("evals"))
def test_no_evaluation_makes_a_number_of_an_answer_that_is_none(one_pass, name, columns):
    evaluation = make(Evaluation, name, {})
    ((_, model),) = one_pass.cases
    model = replace(model, columns=columns)
    images, labels, at = one_pass.gallery.load(one_pass.gallery.chosen)
    numbers = [one_pass.gallery.chosen[place] for place in at]
    vit = model.public.vit
    for condition in evaluation.conditions()[:3]:
        current = replace(one_pass, evaluation=evaluation, condition=condition)
        with torch.no_grad():
            plain = run.measured_by(current, model, images, labels, numbers)
        assert all(len(values) == COUNT for values in plain.values())
        for row in range(COUNT):
            for column in (0, 1, 2, 9):
                bad = BAD[(row + column) % len(BAD)]
                handle = vit.backbone.head.register_forward_hook(
                    lambda *given, at=(row, column), bad=bad: spoilt(given[2], at, bad)
                )
                try:
                    with (
                        torch.no_grad(),
                        pytest.raises(NotFinite, match=f"picture {numbers[row]} "),
                    ):
                        run.measured_by(current, model, images, labels, numbers)
                finally:
                    handle.remove()


def spoilt(logits, at, bad):
    """Return logits with one entry that is no number."""
    found = logits.clone()
    found[at] = bad
    return found


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_an_own_model_that_answers_with_no_number_is_named(tmp_path, monkeypatch, capsys, value):
    (tmp_path / "net.py").write_text(OWN.replace("VALUE", f"'{value}'"))
    call = caller(monkeypatch, capsys)
    given = ["--model", f"{tmp_path / 'net.py'}:net", "--dataset", "cifar10", "--images", "10"]
    code, out, err = call("eval", *given, "--out", tmp_path / "out")
    assert code == 2
    assert "net.py:net answers picture" in err
    assert "cifar10 with NaN or infinity (accuracy)" in err
    assert "Traceback" not in err
    assert "%" not in out
    assert not list((tmp_path / "out").rglob("*.json"))


def column(draw, n, bad):
    values = draw(st.lists(st.floats(0, 1), min_size=n, max_size=n))
    for place in draw(st.lists(st.integers(0, n - 1), min_size=1)) if bad else ():
        values[place] = draw(st.sampled_from(BAD))
    return np.array(values)


@settings(deadline=None, max_examples=60)
@given(st.data(), st.integers(1, 30))
def test_no_statistic_is_computed_over_numbers_that_are_none(data, n):
    good, bad = column(data.draw, n, False), column(data.draw, n, True)
    right = (good > 0.5).astype(float)
    for figure in (rms_error, aurra, calibration):
        for one, other in ((right, bad), (bad, good)):
            with pytest.raises(NotFinite):
                figure(one, other)
    for one, other in ((good, bad), (bad, good)):
        with pytest.raises(NotFinite):
            detection(one, other)


def test_equal_answers_are_numbers_like_any_other():
    right = np.array([1.0, 0.0, 1.0, 1.0])
    assert aurra(right, np.full(4, 0.1)) == pytest.approx(0.75)
    assert rms_error(right, np.full(4, 0.1)) == pytest.approx(0.65)
    assert detection(np.zeros(4), np.zeros(3))["auroc"][0] == 0.5


@pytest.mark.parametrize(("n", "empty"), [(1, True), (199, True), (200, False), (250, False)])
def test_the_released_formula_has_no_figure_without_a_bin(n, empty):
    values = calibration(np.ones(n), np.full(n, 0.5))["rms_released"]
    assert all(np.isnan(value) for value in values) == empty
