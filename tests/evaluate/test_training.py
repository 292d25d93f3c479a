"""Training with estimators: when it changes, and that what a cell measures is repeatable."""

import numpy as np
import pytest

from jaxnas.core.errors import UserError
from jaxnas.evaluate.lab.training import is_stuck, training

SETTINGS = {
    "seed": 0,
    "task": "teacher",
    "dim": 3,
    "layers": 2,
    "inits": 1,
    "batch_size": 32,
    "steps": 6,
    "every": 2,
    "rate": 0.05,
    "estimators": ("ste", "smoothed"),
    "sigma": 0.1,
    "epsilon": 0.1,
    "switch_from": "ste",
    "switch_to": "cdg",
    "window": 1,
    "tolerance": 1.0,
}


@pytest.mark.parametrize(
    ("losses", "window", "tolerance", "stuck"),
    [
        ([1.0], 1, 0.1, False),
        ([1.0, 0.5], 1, 0.1, False),
        ([1.0, 0.95], 1, 0.1, True),
        ([1.0, 0.8, 0.9, 0.85], 2, 0.1, True),
        ([1.0, 0.8, 0.9, 0.7], 2, 0.1, False),
    ],
)
def test_stuck_means_no_better_than_before_the_window(losses, window, tolerance, stuck):
    assert is_stuck(losses, window, tolerance) == stuck


@pytest.fixture(scope="module")
def measured():
    experiment = training(**SETTINGS)
    return experiment, {cell["estimator"]: experiment.measure(cell) for cell in experiment.cells}


def test_the_estimator_changes_exactly_when_it_is_stuck(measured):
    """With a tolerance of one nothing counts as progress: the first measurement after the window changes it."""
    experiment, found = measured
    assert found["switch"]["switched"] == SETTINGS["every"]
    assert np.isnan(found["ste"]["switched"])
    np.testing.assert_array_equal(found["switch"]["loss"][:2], found["ste"]["loss"][:2])
    assert found["switch"]["loss"][-1] != found["ste"]["loss"][-1]
    again = experiment.measure({"init": 0, "estimator": "ste"})
    np.testing.assert_array_equal(again["loss"], found["ste"]["loss"])


def test_conclusions_name_every_plan(measured):
    experiment, found = measured
    table = {
        name: np.stack([found[cell["estimator"]][name] for cell in experiment.cells]) for name in experiment.shapes
    }
    findings = experiment.conclude(table)
    assert set(findings.numbers) == {"ste", "smoothed", "switch"}
    assert findings.numbers["switch"]["switched_at"] == [2.0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 5}, "steps must be a multiple of every, 2, not 5."),
        ({"estimators": ("stee",)}, "unknown estimator 'stee'"),
        ({"inits": 0}, "inits must be at least 1, not 0."),
    ],
)
def test_mistakes(change, message):
    with pytest.raises(UserError) as caught:
        training(**(SETTINGS | change))
    assert message in str(caught.value)
