"""Penalties: closed forms, and their derivatives in loss and cost."""

from math import log

import jax
import numpy as np
import pytest

from jaxnas.core.errors import UserError
from jaxnas.costs.penalties import PENALTIES, check_logarithm

# name, settings, (loss, cost), value, derivative in the loss, derivative in the cost
ROWS = [
    ("linear", {"weight": 0.5, "reference": 4.0}, (2.0, 6.0), 2.75, 1.0, 0.125),
    ("linear", {"weight": 0.0, "reference": 4.0}, (2.0, 6.0), 2.0, 1.0, 0.0),
    ("relative", {"weight": 0.5, "reference": 4.0}, (2.0, 6.0), 2.25, 1.0, 0.125),
    ("relative", {"weight": 0.5, "reference": 4.0}, (2.0, 4.0), 2.0, 1.0, 0.125),
    ("power", {"exponent": 2.0, "reference": 4.0}, (2.0, 6.0), 4.5, 2.25, 1.5),
    ("power", {"exponent": 0.5, "reference": 4.0}, (2.0, 4.0), 2.0, 1.0, 0.25),
    (
        "log_power",
        {"alpha": 0.2, "beta": 0.6},
        (2.0, 9.0),
        0.4 * log(9) ** 0.6,
        0.2 * log(9) ** 0.6,
        0.24 / 9 * log(9) ** -0.4,
    ),
    ("above", {"weight": 0.5, "threshold": 4.0}, (2.0, 6.0), 2.25, 1.0, 0.125),
    ("above", {"weight": 0.5, "threshold": 4.0}, (2.0, 3.0), 2.0, 1.0, 0.0),
    ("reward_power", {"target": 4.0, "exponent": -2.0, "hard": False}, (0.5, 8.0), 0.125, 0.25, -0.03125),
    ("reward_power", {"target": 4.0, "exponent": -2.0, "hard": False}, (0.5, 2.0), 2.0, 4.0, -2.0),
    ("reward_power", {"target": 4.0, "exponent": -2.0, "hard": True}, (0.5, 8.0), 0.125, 0.25, -0.03125),
    ("reward_power", {"target": 4.0, "exponent": -2.0, "hard": True}, (0.5, 2.0), 0.5, 1.0, 0.0),
]


@pytest.mark.parametrize(("name", "settings", "point", "value", "by_loss", "by_cost"), ROWS)
def test_closed_forms(name, settings, point, value, by_loss, by_cost):
    """A few float32 operations each: 1e-6 is about ten roundings."""
    found, gradient = jax.value_and_grad(PENALTIES[name](**settings), (0, 1))(*point)
    np.testing.assert_allclose([found, *gradient], [value, by_loss, by_cost], rtol=1e-6)


def test_every_penalty_has_a_row():
    assert {row[0] for row in ROWS} == set(PENALTIES)


@pytest.mark.parametrize(
    ("name", "settings", "sentence"),
    [
        (
            "linear",
            {"weight": -1.0, "reference": 1.0},
            "cost.penalty.weight is -1.0, but has to be a number of at least 0",
        ),
        (
            "relative",
            {"weight": 1.0, "reference": 0.0},
            "cost.penalty.reference is 0.0, but has to be a number above 0",
        ),
        ("power", {"exponent": -0.5, "reference": 1.0}, "cost.penalty.exponent is -0.5"),
        ("log_power", {"alpha": float("nan"), "beta": 1.0}, "cost.penalty.alpha is nan"),
        ("log_power", {"alpha": 1.0, "beta": 0.0}, "cost.penalty.beta is 0.0"),
        ("above", {"weight": 1.0, "threshold": float("inf")}, "cost.penalty.threshold is inf"),
        ("reward_power", {"target": 0.0, "exponent": -1.0}, "cost.penalty.target is 0.0"),
        ("reward_power", {"target": 1.0, "exponent": 0.07}, "take 0 or less, such as -0.07"),
    ],
)
def test_mistakes(name, settings, sentence):
    with pytest.raises(UserError, match=sentence):
        PENALTIES[name](**settings)


def test_the_logarithm_has_to_be_positive():
    check_logarithm(1.01, "ms")
    with pytest.raises(UserError, match="has to exceed 1 ms, but architectures of this space cost as little as 0"):
        check_logarithm(0.25, "ms")
