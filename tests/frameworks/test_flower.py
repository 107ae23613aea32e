"""The mod for Flower keeps what an audit reads, of the rounds asked for, and changes nothing."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from privbench.auditing.arrays import content
from privbench.frameworks.flower import KeepUpdates, deviation, epsilon


class Array:
    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    def numpy(self) -> np.ndarray:
        return self.values


def message(
    weights: dict[str, np.ndarray], number: int = 1, kind: str = "train", *, grouped: bool = False
) -> Any:
    records = {"arrays": {key: Array(one) for key, one in weights.items()}}
    told = {} if grouped else {"config": {"lr": 0.1, "server-round": number}}
    return SimpleNamespace(
        content=SimpleNamespace(array_records=records, config_records=told),
        metadata=SimpleNamespace(message_type=kind, group_id=str(number) if grouped else ""),
        has_error=lambda: False,
    )


CLIENT: Any = SimpleNamespace(node_id=77, node_config={"partition-id": 3})
BEFORE = {"head.weight": np.ones((2, 3), np.float32), "head.bias": np.zeros(2, np.float32)}


def in_place(asked: Any, _: Any) -> Any:
    """A client that trains in the arrays that it got."""
    arrays = asked.content.array_records["arrays"]
    for one in arrays.values():
        one.values -= 0.5
    return message({key: one.values for key, one in arrays.items()})


@pytest.mark.parametrize("grouped", [False, True])
def test_both_sides_of_a_chosen_round_are_kept_by_name(tmp_path, grouped):
    asked = message({k: one.copy() for k, one in BEFORE.items()}, 2, grouped=grouped)
    answer = KeepUpdates(tmp_path, rounds=[2])(asked, CLIENT, in_place)
    assert set(answer.content.array_records["arrays"]) == set(BEFORE)
    place = tmp_path / "round-2" / "client-3"
    first, second = (content(place / f"{n}.npz", n) for n in ("before", "after"))
    assert isinstance(first, dict)
    assert isinstance(second, dict)
    for name, one in BEFORE.items():
        assert (first[name].numpy() == one).all()
        assert (second[name].numpy() == one - 0.5).all()


def test_numbered_arrays_keep_their_order(tmp_path):
    weights = {str(n): np.full(1, n, np.float32) for n in range(12)}
    KeepUpdates(tmp_path)(message(weights), CLIENT, lambda asked, _: asked)
    found = content(tmp_path / "round-1" / "client-3" / "before.npz", "before")
    assert [float(one) for one in found] == list(range(12))


@pytest.mark.parametrize(("number", "kind"), [(2, "train"), (1, "evaluate"), (1, "query")])
def test_nothing_else_is_kept(tmp_path, number, kind):
    KeepUpdates(tmp_path)(message(BEFORE, number, kind), CLIENT, lambda asked, _: asked)
    assert not list(tmp_path.iterdir())


def test_a_failed_client_leaves_nothing(tmp_path):
    failed = message(BEFORE)
    failed.has_error = lambda: True
    KeepUpdates(tmp_path)(message(BEFORE), CLIENT, lambda *_: failed)
    assert not list(tmp_path.iterdir())


def test_a_client_without_a_partition_is_called_by_its_node(tmp_path):
    alone: Any = SimpleNamespace(node_id=77, node_config={})
    KeepUpdates(tmp_path)(message(BEFORE), alone, lambda asked, _: asked)
    assert (tmp_path / "round-1" / "client-77" / "after.npz").is_file()


def test_the_noise_is_what_the_mod_documents():
    mod = SimpleNamespace(clipping_norm=1.0, sensitivity=1.0, epsilon=1.0, delta=1e-5)
    assert deviation(mod) == pytest.approx(4.8448, abs=1e-4)


def test_the_epsilon_is_that_of_the_analytic_gaussian_mechanism():
    """Balle and Wang's equation for delta holds at what it returns."""
    pytest.importorskip("dp_accounting")
    from scipy.stats import norm

    mod = SimpleNamespace(clipping_norm=1.0, sensitivity=1.0, epsilon=1.0, delta=1e-5)
    found, ratio = epsilon(mod), 2 * mod.clipping_norm / deviation(mod)
    first = norm.cdf(ratio / 2 - found / ratio)
    second = np.exp(found) * norm.cdf(-ratio / 2 - found / ratio)
    assert first - second == pytest.approx(mod.delta, rel=1e-3)
    assert found > mod.epsilon
