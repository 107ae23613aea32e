"""A row of defenses loses no part of any: each hook is called, or the row is refused."""

import copy
import inspect
from dataclasses import replace
from functools import cache
from types import FunctionType

import pytest
import torch

import privbench.defenses
from privbench.component import make, names
from privbench.defense import FIXED, HOOKS, Defense, Outputs
from privbench.errors import BadSetting
from privbench.observation import PublicModel
from privbench.running.client import share
from privbench.seeds import generator
from privbench.stack import Stack
from privbench.threat import Draw, Joint, Randomness, ThreatModel
from privbench.victims.load import load
from privbench.vit import ViT
from tests.conftest import CPU
from tests.defenses.three import FOLDER, THREE

PROPERTIES = {"per_example", "by_tensor", "feeds_back"}
"""Hooks that are no methods."""
SMALL = {"depth": 1, "embed_dim": 16, "num_heads": 2}


@pytest.fixture(autouse=True)
def shelf(monkeypatch):
    """The shelf of defenses, and three more files on it."""
    monkeypatch.setattr(privbench.defenses, "__path__", [*privbench.defenses.__path__, FOLDER])


def recorded(kind, calls):
    """Subclass of a defense that writes down which of its own hooks are called."""

    def hook(name):
        original = getattr(kind, name)
        if isinstance(original, property):
            return property(lambda self: calls.add((kind, name)) or original.__get__(self))

        def call(self, *given, **named):
            calls.add((kind, name))
            return original(self, *given, **named)

        return call

    own = [name for name in HOOKS if getattr(kind, name) is not getattr(Defense, name)]
    body = {name: hook(name) for name in own} | {"__module__": kind.__module__}
    part = type(kind.__name__, (kind,), body)()
    idle = () if part.per_example else ("combine",)  # with its default settings it asks for none
    calls.clear()
    return part, {(kind, name) for name in own if name not in idle}


@cache
def bare(model):
    """A victim that is built once: what it costs is most of what a step on it does."""
    return load(model, SMALL, (), "init", CPU)


def stacked(model, *parts):
    """A victim with defenses in a row, as `load` would have built it."""
    victim = bare(model)
    vit, scheme = copy.deepcopy(victim.model.vit), victim.model.defense
    Stack(parts=parts).equip(vit, generator("equip"))
    return replace(victim, model=PublicModel(vit, Stack(parts=(scheme, *parts))))


def run(*parts, model="vit_vanilla", batch=2):
    """Take a client's step, and call what else a server, a training or a table asks for."""
    subject = stacked(model, *parts)
    images = torch.rand(batch, 3, 32, 32, generator=generator("pictures"))
    labels = torch.arange(batch)
    seen, secret = share(subject, images, labels, ThreatModel(batch_size=batch), (0,))
    vit, defense = subject.model.vit, subject.model.defense
    defense.draw_at_rest(vit, batch, generator("rest"))
    defense.simulate(vit, batch, generator("simulated"))
    defense.told(vit, seen.update.tensors, batch)
    defense.disclosed()
    assert defense.by_tensor is any(part.by_tensor for part in parts)
    defense.measured(seen.update.tensors)
    defense.low_rank(seen.update.tensors)
    defense.deviations(seen.update.tensors)
    defense.deviations_at({}, seen.update.tensors, 0.01)
    defense.privacy(1000, 1e-5)
    defense.joined([seen.update])
    assert defense.feeds_back is any(part.feeds_back for part in parts)
    return seen, secret


def refused(*parts):
    """Return the sentence that refuses a row of defenses, if one does."""
    try:
        Stack(parts=parts)
    except BadSetting as refusal:
        return str(refusal)
    return ""


EVERY = sorted([*names("defenses"), *THREE])


@pytest.mark.parametrize("first", EVERY)
def test_each_with_each_loses_no_part_or_is_refused_in_a_sentence(first):
    ran = 0
    for second in EVERY:
        calls = set()
        kinds = [type(make(Defense, name, {})) for name in (first, second)]
        (one, wanted), (two, more) = (recorded(kind, calls) for kind in kinds)
        if refusal := refused(one, two):
            assert f"{first} and {second} both" in refusal
            assert refusal.endswith(".")
            continue
        ran += 1
        if first <= second:  # the other order is no other test: a spy stands in every place below
            run(one, two)
            assert calls == wanted | more, (first, second)
    assert ran >= len(EVERY) // 2


def test_feedback_of_two_is_refused_and_of_one_is_not():
    plain, fed = ({"feedback": False}, {"feedback": True})
    rows = [(first, second) for first in (plain, fed) for second in (plain, fed)]
    told = [refused(make(Defense, "prune", a), make(Defense, "dgp", b)) for a, b in rows]
    assert told[:3] == ["", "", ""]
    assert "prune and dgp both add what they leave out to their next update" in told[3]


def test_a_row_says_what_it_does_with_every_hook():
    assert set(HOOKS) <= vars(Stack).keys()
    kinds = (property, FunctionType)
    public = {n for n, v in vars(Defense).items() if isinstance(v, kinds) and n[0] != "_"}
    assert public == {*HOOKS, *FIXED, "changes"} - {"gradient"}
    for name in set(HOOKS) - PROPERTIES:
        one, two = (inspect.signature(getattr(kind, name)) for kind in (Defense, Stack))
        assert one.parameters.keys() == two.parameters.keys(), name


@pytest.mark.parametrize("hook", sorted({*HOOKS} - {"combine", "draw"} - PROPERTIES))
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_spy_that_overrides_one_hook_is_called_wherever_it_stands(hook, place):
    calls = []

    def spy(self, *given, **named):
        calls.append(hook)
        return getattr(Defense, hook)(self, *given, **named)

    kind = type("Spy", (Defense,), {hook: spy})
    parts = [make(Defense, "noise", {}), make(Defense, "prune", {})]
    parts.insert(place, kind())
    run(*parts)
    assert calls


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"gradient": lambda self: {}}, "gradient is no hook; override equip, draw"),
        ({"feed": lambda self: None}, "feed is no hook"),
        ({"draw": lambda self, vit, batch, rng: None}, "must say what kind it `draws`"),
        ({"combine": lambda self, gradients, rng: {}}, "must be `per_example`"),
    ],
)
def test_an_override_that_no_step_would_call_is_refused_when_it_is_written(body, words):
    with pytest.raises(TypeError, match=words):
        type("Lost", (Defense,), body)


def test_each_part_gets_its_own_randomness_back():
    seen, secret = run(make(Defense, "bottleneck", {}), make(Defense, "mixed", {}), model="vit_mjp")
    assert isinstance(secret.draw, Joint)
    kinds = [None if one is None else type(one).__name__ for one in secret.draw.parts]
    assert kinds == ["Draw", "Code", "Mixture"]
    assert secret.draw.treated is not None
    assert secret.draw.treated.shape == (2, 64)
    model = seen.model
    whole = model.logits(secret.images, secret.draw)
    masked = next(one for one in secret.draw.parts if isinstance(one, Draw))
    for lost in range(3):
        parts = tuple(None if n == lost else one for n, one in enumerate(secret.draw.parts))
        assert not torch.equal(model.logits(secret.images, Joint(parts)), whole)
    # A server that knows the mask alone names it without the row.
    known = Joint((masked, None, None))
    assert torch.equal(model.logits(secret.images, masked), model.logits(secret.images, known))
    simulated = model.simulate(2, generator("s"), masked)
    assert isinstance(simulated, Joint)
    assert simulated.parts[0] is masked
    assert type(simulated.parts[1]) is type(secret.draw.parts[1])
    assert simulated.parts[2] is None


def test_a_row_in_a_row_is_one_row():
    inner = Stack(parts=(make(Defense, "noise", {}), make(Defense, "clip", {})))
    assert len(Stack(parts=(inner, make(Defense, "none", {}))).parts) == 3
    one = make(Defense, "bottleneck", {})
    assert "bottleneck and bottleneck both run" in refused(Stack(parts=(one,)), one)


class Rescaled(Defense):
    """Makes the gradient as long as the features, which needs activations and their graph."""

    def finish(self, gradients, outputs: Outputs, rng):
        (slope,) = torch.autograd.grad(outputs.logits.sum(), outputs.features)
        factor = float(slope.norm())
        return {name: factor * tensor for name, tensor in gradients.items()}


@pytest.mark.parametrize("other", ["none", "clipped"])
def test_a_finish_differentiates_once_more(other):
    plain, _ = run(make(Defense, other, {}))
    seen, _ = run(make(Defense, other, {}), Rescaled())
    factor = float(seen.model.vit.state_dict()[ViT.HEAD].sum(0).norm()) * 2**0.5
    for name, tensor in plain.update.tensors.items():
        assert torch.allclose(seen.update.tensors[name], factor * tensor, rtol=1e-4, atol=1e-9)


def test_randomness_is_cut_and_moved_with_all_that_it_holds():
    draw = Draw(
        torch.eye(3, dtype=torch.bool), torch.arange(9).view(3, 3), torch.arange(6).view(3, 2)
    )
    both = Joint((draw, None))
    cut = both.rows([2, 0])
    one = cut.parts[0]
    assert isinstance(one, Draw)
    assert one.inner is not None
    assert one.mask.tolist() == [[False, False, True], [True, False, False]]
    assert one.order.tolist() == [[6, 7, 8], [0, 1, 2]]
    assert one.inner.tolist() == [[4, 5], [0, 1]]
    assert [tensor.shape[0] for tensor in cut.tensors()] == [2, 2, 2]
    assert both.to(torch.device("meta")).tensors()[0].device.type == "meta"
    assert Randomness().treated is None
