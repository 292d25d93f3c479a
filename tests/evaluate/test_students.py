"""The lab's students and their tasks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.core.errors import UserError
from jaxnas.data.sources import load
from jaxnas.evaluate import lab
from jaxnas.evaluate.lab.students import TASKS, make_student, unit_length, unit_tensors
from jaxnas.networks import sign_network

KEY = jax.random.key(1)


@pytest.mark.parametrize("task", TASKS)
def test_a_student_fits_its_task(task):
    student = make_student(0, 0, 5, 3, pretrained=False, task=task)
    x, y = student.batch(KEY, 7)
    sign_network.check(student.params, x, y)
    assert [layer["kernel"].shape[1] for layer in student.params[:-1]] == [5, 5]
    again, other = student.batch(KEY, 7), student.batch(jax.random.key(2), 7)
    np.testing.assert_array_equal(x, again[0])
    assert not np.array_equal(x, other[0])


@pytest.mark.parametrize("task", TASKS)
def test_pretraining_lowers_the_loss(task):
    raw, trained = (make_student(0, 0, 4, 2, pretrained=kind, task=task, steps=20) for kind in (False, True))
    x, y = raw.batch(KEY, 500)
    np.testing.assert_array_equal(trained.batch(KEY, 500)[1], y)
    assert lab.loss(trained.params, x, y) < lab.loss(raw.params, x, y)


def test_a_teacher_of_the_same_shape_sets_the_targets():
    """The teacher is a network: doubling an input, where there are no biases, changes no sign."""
    student = make_student(0, 0, 4, 3, pretrained=False, bias=False)
    x, y = student.batch(KEY, 50)
    assert y.shape == (50, 1) and x.shape == (50, 4)
    assert len(np.unique(np.asarray(y).round(5))) <= 2**4


def test_digits_are_normalised_images_with_one_hot_targets():
    x, y = make_student(0, 0, 4, 2, pretrained=False, task="digits").batch(KEY, 4000)
    np.testing.assert_array_equal(y.sum(axis=1), 1)
    np.testing.assert_allclose([x.mean(), x.std()], [0, 1], atol=0.02)
    data = load("digits")
    shares = np.bincount(data.y_train) / len(data.y_train)
    np.testing.assert_allclose(y.mean(axis=0), shares, atol=4 * np.sqrt(0.1 * 0.9 / 4000))  # four standard errors


@pytest.mark.parametrize(("normalised", "whole"), [(unit_length, True), (unit_tensors, False)])
def test_lengths(normalised, whole):
    gradient = ({"kernel": jnp.full((2, 2), 3.0), "bias": jnp.zeros(2)}, {"kernel": jnp.full((2, 1), 5.0)})
    lengths = [float(jnp.linalg.norm(leaf)) for leaf in jax.tree.leaves(normalised(gradient))]
    assert sum(length**2 for length in lengths) == pytest.approx(1 if whole else 2)
    assert 0.0 in lengths  # zeros stay zeros


def test_an_unknown_task():
    with pytest.raises(UserError, match="unknown task 'digit'; did you mean 'digits'"):
        make_student(0, 0, 4, 2, pretrained=False, task="digit")
