"""The engine of gradient matching: optimizers over rows, and one objective however it is run."""

from dataclasses import replace

import pytest
import scipy.optimize
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from privbench.attack import Attack
from privbench.attacks._matching import descent as _descent
from privbench.attacks._matching.descent import Descent, Task
from privbench.attacks._matching.distances import by_token, compare_all, relative, squared
from privbench.attacks._matching.engine import Matching
from privbench.attacks._matching.optimizers import LBFGS, Adam, _Search, cosine, step_decay, warm_up
from privbench.attacks._matching.priors import mean_square, roughness, size
from privbench.attacks._matching.recipe import Recipe, Stage
from privbench.attacks._update.reading import from_pictures, labels, mask
from privbench.client_step import ClientStep
from privbench.component import make
from privbench.errors import BadUpdate, OutOfMemory
from privbench.seeds import generator
from privbench.threat import Update
from privbench.vit import ViT
from tests.conftest import quiet


def valley(points):
    """Rosenbrock's function of each row, in float64."""
    ahead = points[:, 1:] - points[:, :-1].square()
    return 100 * ahead.square().sum(1) + (1 - points[:, :-1]).square().sum(1)


def slopes(function):
    def evaluate(points, rows):
        points = points.detach().requires_grad_()
        values = function(points)
        return values.detach(), torch.autograd.grad(values.sum(), points)[0]

    return evaluate


def starts(count, size, seed=0):
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(count, size, generator=rng, dtype=torch.float64)


@pytest.mark.parametrize("history", [4, 100])
def test_lbfgs_ends_where_scipys_does(history):
    begin = starts(2, 6)
    found = LBFGS(history).run(begin, [(150, slopes(valley))], None)
    for row, start in zip(found, begin, strict=True):
        peer = scipy.optimize.minimize(
            lambda x: float(valley(torch.as_tensor(x)[None])),
            start.numpy(),
            jac=lambda x: slopes(valley)(torch.as_tensor(x)[None], None)[1][0].numpy(),
            method="L-BFGS-B",
            options={"ftol": 0, "gtol": 1e-10, "maxiter": 1000, "maxfun": 2000},
        )
        assert torch.allclose(row, torch.as_tensor(peer.x), atol=1e-5)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 9), st.integers(0, 99))
def test_the_inverse_hessian_is_that_of_the_bfgs_updates(pairs, seed):
    """Dense BFGS (Nocedal and Wright, eq. 6.17) from the same last pairs, history three."""
    size, history = 6, 3
    search = _Search(starts(1, size, seed), history, True)
    rng = torch.Generator().manual_seed(seed)
    matrix = torch.randn(size, size, generator=rng, dtype=torch.float64)
    matrix = matrix @ matrix.T + torch.eye(size, dtype=torch.float64)
    rows = torch.tensor([0])
    moves = torch.randn(pairs, size, generator=rng, dtype=torch.float64)
    for move in moves:
        search._remember(rows, move[None], (matrix @ move)[None])
    last = moves[-history:]
    turn = matrix @ last[-1]
    dense = (last[-1] @ turn) / (turn @ turn) * torch.eye(size, dtype=torch.float64)
    for move in last:
        turn = matrix @ move
        turned = torch.eye(size, dtype=torch.float64) - torch.outer(move, turn) / (move @ turn)
        dense = turned @ dense @ turned.T + torch.outer(move, move) / (move @ turn)
    slope = torch.randn(1, size, generator=rng, dtype=torch.float64)
    found = search._inverse(rows, slope)
    assert torch.allclose(found[0], dense @ slope[0], rtol=1e-6, atol=1e-9)


def test_rows_do_not_touch_each_other():
    begin = starts(2, 8)
    together = LBFGS().run(begin, [(20, slopes(valley))], None)
    for row, start in zip(together, begin, strict=True):
        assert torch.allclose(row, LBFGS().run(start[None], [(20, slopes(valley))], None)[0])


@pytest.mark.parametrize("optimizer", [LBFGS(), LBFGS(line_search=False), Adam(0.1)])
def test_a_row_that_is_not_finite_rests_and_the_others_go_on(optimizer):
    begin = starts(2, 4)
    begin[0] = float("nan")
    end = optimizer.run(begin, [(25, slopes(valley))], None)
    assert valley(end)[1] < valley(begin)[1]


@pytest.mark.parametrize("signed", [False, True])
def test_adam_takes_torchs_steps(signed):
    begin = starts(2, 5)
    ours = Adam(0.05, step_decay, signed).run(
        begin, [(8, slopes(valley)), (8, slopes(valley))], None
    )
    point = begin.clone().requires_grad_()
    peer = torch.optim.Adam([point], lr=0.05)
    decay = torch.optim.lr_scheduler.MultiStepLR(peer, [6, 10, 14], gamma=0.1)
    for _ in range(16):
        slope = slopes(valley)(point, None)[1]
        point.grad = slope.sign() if signed else slope
        peer.step()
        decay.step()
    assert torch.allclose(ours, point.detach(), rtol=1e-6)


def test_adam_stays_in_its_box():
    box = (torch.full((3,), -0.1), torch.full((3,), 0.2))
    end = Adam(0.5).run(starts(2, 3), [(5, slopes(valley))], box)
    assert torch.equal(end, end.clamp(*box))


def test_schedules_start_and_end_where_they_say():
    assert cosine(0.0) == 1
    assert cosine(1.0) == pytest.approx(0)
    rising = warm_up(0.25, cosine)
    assert rising(0.0) == 0
    assert rising(0.25) == 1
    assert rising(1.0) == pytest.approx(0)


def task(seen, joint=False, compare=by_token, seed=0):
    shared = from_pictures(seen)
    known = None if joint else labels(seen)
    asked = compare(seen, shared)
    return Task(seen, asked, known, mask(seen), generator("task", seed), quiet)


def everything(seen, shared):
    return compare_all(seen, shared, relative)


@pytest.mark.parametrize("model", ["vit_vanilla", "vit_mjp"])
@pytest.mark.parametrize(("joint", "compare"), [(False, by_token), (True, everything)])
def test_side_by_side_has_the_same_slopes_as_one_by_one(model, joint, compare, victim, shared):
    seen = [shared(victim(model), seed=seed)[0] for seed in range(3)]
    recipe = Recipe(
        LBFGS(), 4, (Stage(priors=((0.5, roughness),), group=((2.0, mean_square),)),), joint=joint
    )
    found = []
    for at_once in (1, 3):
        descent = Descent(recipe, [task(one, joint, compare, n) for n, one in enumerate(seen)])
        descent.at_once = at_once
        step = ClientStep(descent.model.vit, descent.model.defense)
        descent.step = None if at_once == 1 else step.apart()
        points = descent.points + 0.1
        found.append(_descent._Evaluation(descent, recipe.stages[0])(points, torch.arange(3)))
    assert torch.allclose(found[0][0], found[1][0], rtol=1e-4)
    gap = (found[0][1] - found[1][1]).norm() / found[0][1].norm()
    assert gap < 1e-4


def test_short_memory_halves_the_rows_and_says_so(victim, shared, monkeypatch):
    seen, _ = shared(victim("vit_vanilla"))
    whole = _descent._Evaluation._part

    def narrow(self, points, rows):
        if len(points) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return whole(self, points, rows)

    def answer():
        descent = Descent(Recipe(LBFGS(), 3, restarts=4), [task(seen)])
        descent.at_once = 4
        descent.step = ClientStep(descent.model.vit, descent.model.defense).apart()
        return descent.answers()[0]

    plenty = answer()
    monkeypatch.setattr(_descent._Evaluation, "_part", narrow)
    short = answer()
    assert plenty.warnings == ()
    assert short.warnings == ("Memory was short: 1 of 4 rows ran at once.",)
    assert torch.allclose(plenty.images, short.images, atol=1e-4)

    def nothing(self, points, rows):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(_descent._Evaluation, "_part", nothing)
    with pytest.raises(OutOfMemory, match="smaller --batch-size"):
        answer()


class Wide(Matching):
    """Everything, at the truth or beside it, in the chosen width."""

    wide: bool = False

    def compare(self, seen, shared):
        return everything(seen, shared)

    def descent(self, seen):
        return Recipe(LBFGS(), 1, wide=self.wide)


@pytest.mark.parametrize("wide", [False, True])
def test_the_objective_at_the_private_picture_is_rounding(wide, victim, shared):
    seen, secret = shared(victim("vit_vanilla"))
    asked = task(seen, compare=everything)
    descent = Descent(Recipe(LBFGS(), 1, wide=wide), [asked])
    truth = ((secret.images.to(descent.mean) - descent.mean) / descent.std).view(1, -1)
    value, _ = _descent._Evaluation(descent, Stage())(truth, torch.tensor([0]))
    assert value.dtype == (torch.float64 if wide else torch.float32)
    assert float(value) < 1e-9
    answer = Wide(wide=wide).reconstruct(seen, generator("a"), quiet)
    assert answer.images.dtype == torch.float32


def test_restarts_that_are_pulled_to_their_mean_agree(victim, shared):
    seen, _ = shared(victim("vit_vanilla"))

    def spread(group):
        stages = (Stage(matching=0.0, group=((group, mean_square),)),)
        descent = Descent(Recipe(LBFGS(), 8, stages, restarts=3, start="uniform"), [task(seen)])
        ends = LBFGS().run(descent.points, [(8, _descent._Evaluation(descent, stages[0]))], None)
        return float(ends.std(0).mean())

    assert spread(1.0) < 0.01 * spread(0.0)


@pytest.mark.parametrize(("optimizer", "follows"), [(Adam(0.1), True), (LBFGS(), False)])
def test_the_mean_of_restarts_follows_adam_and_stays_for_lbfgs(optimizer, follows, victim, shared):
    seen, _ = shared(victim("vit_vanilla"))
    stage = Stage(matching=0.0, group=((1.0, size),))
    descent = Descent(Recipe(optimizer, 2, (stage,), restarts=2, start="uniform"), [task(seen)])
    evaluate, both = _descent._Evaluation(descent, stage), torch.arange(2)
    assert float(evaluate(descent.points, both)[0].min()) > 1
    at_one_point = evaluate(descent.points[:1].expand(2, -1), both)[0]
    assert (float(at_one_point.max()) < 1e-6) is follows


def test_a_prior_without_weight_is_not_asked(victim, shared):
    seen, _ = shared(victim("vit_vanilla"))

    def costly(images):
        raise AssertionError

    stages = (Stage(priors=((0.0, costly),)),)
    Descent(Recipe(LBFGS(), 2, stages, priors=((0.0, costly),)), [task(seen)]).answers()


def test_a_position_gradient_of_zeros_is_as_good_as_none(victim, shared):
    seen, _ = shared(victim("vit_vanilla"))
    tensors = seen.update.tensors
    blank = tensors | {ViT.POSITIONS: torch.zeros_like(tensors[ViT.POSITIONS])}
    assert by_token(seen, blank).names == (ViT.PROJECTION,)


@pytest.mark.parametrize("name", ["gradinv", "tag"])
def test_several_observations_are_answered_as_each_would_be(name, victim, shared):
    seen = [shared(victim("vit_vanilla"), seed=seed)[0] for seed in range(2)]
    attack = make(Attack, name, {"steps": 6})
    rngs = [generator("a", n) for n in range(2)]
    ticks = [[], []]
    many = attack.reconstruct_many(
        seen, rngs, [lambda *t, heard=heard: heard.append(t) for heard in ticks]
    )
    for n, one in enumerate(seen):
        alone = attack.reconstruct(one, generator("a", n), quiet)
        assert torch.allclose(alone.images, many[n].images, atol=1e-4)
        assert alone.gradient_calls == many[n].gradient_calls == len(ticks[n])


def test_observations_of_other_shapes_are_kept_apart(victim, shared):
    seen = [shared(victim("vit_vanilla"), batch)[0] for batch in (1, 2, 1)]
    rngs = [generator("a", n) for n in range(3)]
    answers = make(Attack, "gradinv", {"steps": 2}).reconstruct_many(seen, rngs, [quiet] * 3)
    assert [len(answer.images) for answer in answers] == [1, 2, 1]


ENGINE = ["dlg", "gradinv", "gradvit", "tag"]


def with_update(seen, change):
    return replace(seen, update=Update({n: change(t) for n, t in seen.update.tensors.items()}))


@pytest.mark.parametrize("name", ENGINE)
def test_an_update_that_is_not_finite_is_refused_in_a_sentence(name, victim, shared):
    seen = with_update(shared(victim("vit_vanilla"))[0], lambda tensor: tensor * float("nan"))
    with pytest.raises(BadUpdate, match="NaN or infinity"):
        make(Attack, name, {}).reconstruct(seen, generator("a"), quiet)


@pytest.mark.parametrize("name", ENGINE)
def test_a_zero_update_is_answered_by_the_mean_color_and_a_warning(name, victim, shared):
    seen = with_update(shared(victim("vit_vanilla"))[0], torch.zeros_like)
    answer = make(Attack, name, {}).reconstruct(seen, generator("a"), quiet)
    assert torch.equal(answer.images, seen.model.vit.mean.expand(seen.shape))
    assert "nothing to match" in answer.warnings[0]


def test_an_objective_that_is_never_finite_is_said(victim, shared):
    seen, _ = shared(victim("vit_vanilla"))
    asked = task(seen)
    broken = replace(asked.asked, distance=lambda found, facts: sum_of(found) * float("nan"))
    answer = Descent(Recipe(LBFGS(), 3), [replace(asked, asked=broken)]).answers()[0]
    assert answer.warnings == ("The objective was never finite, so this is the mean color.",)
    assert torch.equal(answer.images, seen.model.vit.mean.expand(seen.shape))


def sum_of(found):
    return torch.stack([tensor.sum() for tensor in found.values()]).sum()


def test_the_budget_is_split_by_shares_and_every_stage_can_move():
    stages = (Stage(300), Stage(100), Stage(1))
    assert Recipe(LBFGS(), 100, stages).counts() == [75, 25, 2]


def test_what_guides_a_stage_has_no_say_in_the_choice(victim, shared):
    """A prior that outweighs all drives pixels off; the gradient asked for is that of the start."""
    seen, _ = shared(victim("vit_vanilla"))
    gray = seen.model.vit.mean.expand(seen.shape)
    asked = task(seen)
    wanted = seen.model.gradient(gray, asked.labels, differentiable=False)
    asked = replace(asked, asked=compare_all(seen, wanted, squared))
    recipe = Recipe(LBFGS(), 6, (Stage(priors=((1e9, lambda x: (x - 3).square().mean()),)),))
    answer = Descent(recipe, [asked]).answers()[0]
    assert torch.allclose(answer.images, gray, atol=0.1)
