"""The regression of the position study, against other ways to the same numbers."""

import numpy as np
import pytest

from privbench.study import positions
from tests.study.test_positions import rng


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("features", [10, 60])
def test_ridge_solves_the_normal_equations(intercept, features):
    draw = rng()
    x, x_test = draw.normal(size=(40, features)) + 1, draw.normal(size=(7, features)) + 1
    y, y_test = draw.integers(-50, 50, (40, 3)), draw.integers(-50, 50, (7, 3))
    strengths = np.array([1e-3, 0.1, 10.0])
    found = positions._errors((x, y), (x_test, y_test), strengths, intercept=intercept)
    x_mean, y_mean = (x.mean(0), y.mean(0)) if intercept else (0, 0)
    gram = (x - x_mean).T @ (x - x_mean)
    for strength, (one, two) in zip(strengths, found, strict=True):
        ridge = strength * np.linalg.eigvalsh(gram)[-1] * np.eye(features)
        weights = np.linalg.solve(gram + ridge, (x - x_mean).T @ (y - y_mean))
        wrong = np.abs((x_test - x_mean) @ weights + y_mean - y_test)
        assert one == pytest.approx(wrong[:, 0].mean())
        assert two == pytest.approx(wrong[:, 1:].mean())


@pytest.mark.parametrize("features", [10, 60])
def test_no_ridge_is_the_least_squares_solution_of_smallest_norm(features):
    draw = rng()
    x, x_test = draw.normal(size=(40, features)), draw.normal(size=(7, features))
    y, y_test = draw.integers(0, 50, (40, 3)), draw.integers(0, 50, (7, 3))
    [(one, _)] = positions._errors((x, y), (x_test, y_test), np.zeros(1), intercept=True)
    weights = np.linalg.lstsq(x - x.mean(0), y - y.mean(0), rcond=None)[0]
    wrong = np.abs((x_test - x.mean(0)) @ weights + y.mean(0) - y_test)
    assert one == pytest.approx(wrong[:, 0].mean())
