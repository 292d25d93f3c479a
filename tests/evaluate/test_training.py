"""Training with estimators: when it changes, and that what a cell measures is repeatable."""

import jax
import numpy as np
import optax
import pytest

from jaxnas.core.errors import UserError
from jaxnas.core.keys import at_step, named
from jaxnas.evaluate import lab
from jaxnas.evaluate.lab.students import make_student
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
        ([1.0, 1.0], 1, 0.0, True),
        ([1.0, float("nan")], 1, 0.1, True),
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


def test_who_changes_begins_anew(measured):
    """Changing to itself: the same until then, and another rate and fresh moments afterwards."""
    _, found = measured
    assert found["restart"]["switched"] == SETTINGS["every"]
    np.testing.assert_array_equal(found["restart"]["loss"][:2], found["ste"]["loss"][:2])
    assert found["restart"]["loss"][-1] != found["ste"]["loss"][-1]


def test_adam_with_a_rate_that_falls_by_a_cosine():
    """The whole training by optax, from the same draws."""
    settings = SETTINGS | {"estimators": ("ste",)}
    experiment = training(**settings)
    student = make_student(0, 0, 3, 2, pretrained=False)
    key = at_step(named(jax.random.key(0), "training"), "init", 0)
    x, y = student.batch(named(key, "measure"), 16_384)
    optimizer = optax.adam(optax.cosine_decay_schedule(settings["rate"], settings["steps"]))
    params, state, losses = student.params, optimizer.init(student.params), [lab.loss(student.params, x, y)]
    for number in range(settings["steps"]):
        batch = student.batch(named(at_step(key, "step", number), "data"), settings["batch_size"])
        changes, state = optimizer.update(lab.gradient("ste", params, *batch), state)
        params = optax.apply_updates(params, changes)
        losses.append(lab.loss(params, x, y))
    found = experiment.measure({"init": 0, "estimator": "ste"})["loss"]
    np.testing.assert_allclose(found, losses[:: settings["every"]], rtol=1e-4)


def test_conclusions_name_every_plan(measured):
    experiment, found = measured
    table = {
        name: np.stack([found[cell["estimator"]][name] for cell in experiment.cells]) for name in experiment.shapes
    }
    findings = experiment.conclude(table)
    assert set(findings.numbers) == {"ste", "smoothed", "restart", "switch"}
    assert findings.numbers["restart"]["switched_at"] == [2.0]
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
