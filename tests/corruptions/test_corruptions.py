"""The 19 corruptions: what an independent package made of the same draws, and their promises."""

import json
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.ndimage import distance_transform_edt, gaussian_filter
from scipy.signal import convolve2d

from privbench.corruption_names import COUNTED, EXTRA, NAMES, SEVERITIES
from privbench.corruptions import _pool, blur, corrupt, corrupt_all, digital, noise, weather
from privbench.corruptions._liquid import canny, distance, equalize
from privbench.corruptions._motion import along, zoomed
from privbench.corruptions._plasma import plasma
from privbench.corruptions._recipe import MADE
from privbench.datasets._corruptions import NAMES as RELEASED
from privbench.errors import BadSetting, UnknownName
from tests.corruption_cases import draws, picture, sketch

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "corruptions.json").read_text())
TOLERANCE = 0.15
"""Levels: the package's flakes of snow are not cut to 8 bits before they fall."""
DRAWN = {name for name in NAMES if "noise" in name} | {
    *("glass_blur", "motion_blur", "snow", "frost", "fog", "elastic_transform", "spatter"),
}
UNORDERED = {"glass_blur", "saturate", "elastic_transform"}
CELLS = [(name, severity) for name in NAMES for severity in SEVERITIES]


def test_the_names_are_those_of_the_paper_everywhere() -> None:
    """Formulas, released sets and tables know the same 15 and 4."""
    assert set(MADE) == set(NAMES) == set(RELEASED)
    assert (len(COUNTED), len(EXTRA), len(NAMES)) == (15, 4, 19)


@pytest.mark.parametrize("recipe", ["imagenet", "cifar10"])
@pytest.mark.parametrize("name", NAMES)
def test_the_golden_sketches_come_out(name: str, recipe: Any) -> None:
    """From the same draws: means of blocks, deviations and gradients, in levels."""
    pixels = picture(224 if recipe == "imagenet" else 32)
    for severity, expected in zip(SEVERITIES, GOLDEN[recipe][name], strict=True):
        made = corrupt(pixels, name, severity, draws(name), recipe)
        assert made.dtype == np.uint8
        assert made.shape == pixels.shape
        assert_allclose(sketch(made), expected, atol=TOLERANCE)


@pytest.mark.parametrize("name", NAMES)
def test_a_seed_decides(name: str) -> None:
    """The same seed makes the same picture; another one another, where there is chance at all."""
    pixels = picture(32)
    one, again, other = (
        corrupt(pixels, name, 3, np.random.default_rng(seed), "cifar10") for seed in (1, 1, 2)
    )
    assert_array_equal(one, again)
    assert (one != other).any() == (name in DRAWN)


@pytest.mark.parametrize("name", sorted(set(NAMES) - UNORDERED))
def test_severity_5_hurts_more_than_severity_1(name: str) -> None:
    """Mean squared change, over ten pictures; the three others are not in order at 32 px."""
    sheet = picture(320)
    change = {
        s: np.mean(
            [
                (corrupt(x, name, s, np.random.default_rng(i), "cifar10") - x.astype(float)) ** 2
                for i, x in enumerate(sheet[i : i + 32, :32] for i in range(0, 320, 32))
            ]
        )
        for s in (1, 5)
    }
    assert change[1] < change[5]


@settings(deadline=None, max_examples=25)
@given(st.sampled_from(CELLS), st.integers(0, 2**62), st.sampled_from([0, 1, 128, 255]))
def test_flat_pictures_do_not_break(cell: tuple[str, int], seed: int, level: int) -> None:
    """Black, white and grey: values stay levels, and nothing warns."""
    flat = np.full((32, 32, 3), level, np.uint8)
    made = corrupt(flat, *cell, np.random.default_rng(seed), "cifar10")
    assert made.shape == flat.shape
    assert made.dtype == np.uint8


@pytest.mark.parametrize(("name", "formula"), [("gaussian_noise", noise), ("fog", weather)])
def test_the_input_is_left_alone(name: str, formula: object) -> None:
    """A picture is corrupted into another array."""
    pixels = picture(32)
    before = pixels.copy()
    corrupt(pixels, name, 5, np.random.default_rng(0), "cifar10")
    assert_array_equal(pixels, before)


def test_glass_is_a_sequence_of_copies() -> None:
    """Chains of pointers end where one pixel after the other would have copied from."""
    reach, side = 3, 40
    pixels = picture(side)
    found = blur._sources(side, side, reach, np.random.default_rng(5))
    moves = np.random.default_rng(5).integers(-reach, reach, size=(side - 2 * reach,) * 2 + (2,))
    expected = pixels.copy()
    for i, h in enumerate(range(side - reach, reach, -1)):
        for j, w in enumerate(range(side - reach, reach, -1)):
            dx, dy = moves[i, j]
            expected[h, w] = expected[h + dy, w + dx]
    assert_array_equal(pixels.reshape(-1, 3)[found].reshape(pixels.shape), expected)


def test_defocus_is_a_convolution_with_a_disk() -> None:
    """Against scipy's direct sum."""
    pixels = picture(32)
    kernel = blur._disk(4.0, 0.5)
    assert kernel.sum() == pytest.approx(1)
    padded = np.pad(pixels[..., 1] / 255, 8, mode="reflect")
    made = blur.defocus_blur(pixels, np.random.default_rng(0), (4.0, 0.5))[..., 1]
    assert_allclose(made, convolve2d(padded, kernel, "valid") * 255, atol=1e-9)


@pytest.mark.parametrize("sigma", [0.0, 0.96, 6.4, 40.0])
def test_the_smooth_field_is_a_truncated_gaussian_filter(sigma: float) -> None:
    """Also where the kernel is wider than the picture."""
    x = np.random.default_rng(0).uniform(-1, 1, (32, 32))
    expected = gaussian_filter(x, sigma, mode="reflect", truncate=3)
    assert_allclose(digital._smooth(x, sigma), expected, atol=1e-12)


@pytest.mark.parametrize("angle", [0.0, 30.0, 90.0, -135.0])
def test_motion_looks_ahead(angle: float) -> None:
    """A bright pixel smears backwards by half a normal curve; mean brightness stays."""
    x = np.zeros((41, 41), np.float32)
    x[20, 20] = 1
    made = along(x, 5, 2.0, angle)
    rows, columns = np.nonzero(made)
    far = np.hypot(rows - 20, columns - 20).max()
    assert made.sum() == pytest.approx(1)
    peak = np.hypot(*(np.array(divmod(made.argmax(), 41)) - 20))
    assert peak < 1.5  # steps along a diagonal may meet the same pixel twice
    assert far == pytest.approx(10, abs=0.8)
    at = np.radians(angle)
    assert ((columns - 20) * np.cos(at) + (rows - 20) * np.sin(at) < 0.8).all()


def test_zooming_by_one_changes_nothing_and_by_two_keeps_the_middle() -> None:
    """Corners of what is cut out meet corners of what is shown."""
    x = np.arange(64.0).reshape(8, 8)
    assert_array_equal(zoomed(x, 1.0), x)
    assert_allclose(zoomed(x, 2.0)[[0, -1], [0, -1]], x[[2, 5], [2, 5]])


@pytest.mark.parametrize("decay", [1.4, 3.0])
def test_plasma_is_a_height_map(decay: float) -> None:
    """From 0 to 1, and smoother with a larger decay."""
    cloud = plasma(64, decay, np.random.default_rng(0))
    assert (cloud.min(), cloud.max()) == (0, 1)
    assert np.abs(np.diff(cloud)).mean() < (0.2 if decay == 1.4 else 0.05)


def test_chamfer_distances_are_near_euclidean_ones() -> None:
    """Within 2 % up to the farthest that matters; the moves themselves are exact."""
    edges = np.random.default_rng(0).random((64, 64)) < 0.005
    expected: Any = distance_transform_edt(~edges)
    near = expected < 19
    assert_allclose(distance(edges)[near], expected[near], rtol=0.025)
    one = np.zeros((9, 9), bool)
    one[4, 4] = True
    assert_allclose(distance(one)[4:7, 4:8], np.hypot(*np.mgrid[:3, :4]), rtol=0.025)
    assert distance(one)[6, 7] == pytest.approx(2.1969 + 1.4, abs=1e-4)
    assert (distance(np.zeros((9, 9), bool)) > 20).all()


def test_edges_are_thin_lines_where_levels_jump() -> None:
    """A strong step is an edge, a weak one is not, a weak one that touches a strong one is."""
    x = np.zeros((20, 20), np.uint8)
    x[:, 10:] = 30
    assert_array_equal(canny(x).sum(1), np.zeros(20))  # 4 x 30: above weak, below strong
    x[10:, 10:] = 200
    edges = canny(x)
    assert edges[:, 9:11].any(1).all()
    assert not edges[:, :8].any()
    assert not edges[12:, 12:].any()


def test_equalizing_spreads_a_histogram() -> None:
    """The darkest level becomes 0, the brightest 255; one level alone stays."""
    gray = np.array([[10, 10, 20], [30, 30, 30]], np.uint8)
    assert_array_equal(equalize(gray), [[0, 0, 64], [255, 255, 255]])
    assert_array_equal(equalize(np.full((2, 2), 7, np.uint8)), np.full((2, 2), 7))


def test_frost_is_a_piece_of_one_of_five_pictures() -> None:
    """Never of the sixth; at 32 px every fifth pixel."""
    assert len(weather.TEXTURES) == 5
    black = np.zeros((32, 32, 3), np.uint8)
    made = weather.frost(black, np.random.default_rng(4), (1.0, 1.0))
    rng = np.random.default_rng(4)
    ice = weather._texture(int(rng.integers(5)))[2::5, 2::5]
    top, left = (int(rng.integers(0, size - 32)) for size in ice.shape[:2])
    assert_array_equal(made, ice[top : top + 32, left : left + 32])


@pytest.mark.parametrize("quality", [None, 85])
def test_a_batch_is_its_pictures(quality: int | None) -> None:
    """Each from its own seed, with or without other processes, as a JPEG file if asked for."""
    batch = np.stack([picture(320)[i : i + 32, 64:96] for i in range(0, 320, 17)][:17])
    seeds = list(range(100, 117))
    made = corrupt_all(batch, "shot_noise", 2, seeds, "cifar10", quality=quality)
    one = corrupt(batch[16], "shot_noise", 2, np.random.default_rng(116), "cifar10")
    if quality:
        assert 0 < np.abs(made[16] - one.astype(float)).mean() < 20
        one = digital.as_jpeg(one, quality)
    assert_array_equal(made[16], one)
    assert corrupt_all(batch[:0], "fog", 1, [], "cifar10").shape == (0, 32, 32, 3)


def test_other_processes_make_the_same() -> None:
    """Two workers, more than a chunk each."""
    batch = np.repeat(picture(32)[None], 33, 0)
    alone = corrupt_all(batch, "snow", 4, list(range(33)), "cifar10")
    assert_array_equal(corrupt_all(batch, "snow", 4, list(range(33)), "cifar10", workers=2), alone)
    pool = _pool(2)
    assert isinstance(pool, ProcessPoolExecutor)
    pool.shutdown()
    _pool.cache_clear()


def test_mistakes_are_named() -> None:
    """An unknown corruption and a severity out of range."""
    rng, pixels = np.random.default_rng(0), picture(32)
    with pytest.raises(UnknownName, match="Did you mean 'frost'"):
        corrupt(pixels, "frosts", 1, rng, "cifar10")
    with pytest.raises(BadSetting, match="Severities are 1 to 5; 6"):
        corrupt(pixels, "frost", 6, rng, "cifar10")
