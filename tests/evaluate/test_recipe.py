"""Recipes: rates in closed form, optimizers against the same in NumPy, moving averages by hand."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxnas.core.errors import UserError
from jaxnas.evaluate.recipe import (
    OPTIMIZERS,
    SCHEDULES,
    LighterDecay,
    Recipe,
    averaged,
    check_recipe,
    optimizer_of,
    rate_of,
)

EPOCHS, STEPS = 6, 3  # steps of an epoch
RECIPE = Recipe(EPOCHS, 4, 0.2, 0.9, 0.0, 0.0, drop_path=0.0, auxiliary_weight=0.0)
RECIPE = RECIPE._replace(decay_epochs=(2, 4), decay_factor=0.5)
# The share of the highest rate after so much of the steps, and in an epoch, without a warm-up.
EXPECTED = {
    "cosine": lambda progress, epoch: 0.5 * (1 + np.cos(np.pi * progress)),
    "linear": lambda progress, epoch: 1 - progress,
    "steps": lambda progress, epoch: 1.0 if epoch < 2 else 0.5 if epoch < 4 else 0.25,
    "exponential": lambda progress, epoch: 0.5**epoch,
}


@pytest.mark.parametrize("warmup", [0, 2])
@pytest.mark.parametrize("name", SCHEDULES)
def test_rates(name, warmup):
    """Steps and exponents go by epochs from the very beginning, the others by what comes after the warm-up."""
    rate = rate_of(RECIPE._replace(schedule=name, warmup_epochs=warmup), STEPS)
    first = warmup * STEPS
    for step in range(EPOCHS * STEPS):
        progress = max(0, step - first) / (EPOCHS * STEPS - first)
        rising = min(1, (step + 1) / first) if warmup else 1
        expected = 0.2 * rising * EXPECTED[name](progress, step // STEPS)
        np.testing.assert_allclose(
            rate(jnp.asarray(step, jnp.int32)), expected, rtol=1e-6, atol=2e-8
        )  # of the rounding of 1 + cos


def test_the_first_rates_of_a_warm_up_are_a_ramp():
    rate: Any = rate_of(RECIPE._replace(schedule="steps", warmup_epochs=1), STEPS)
    np.testing.assert_allclose([rate(step) for step in range(4)], [0.2 / 3, 0.4 / 3, 0.2, 0.2], rtol=1e-6)


def test_steps_without_epochs_to_decay_at_keep_the_rate():
    rate: Any = rate_of(RECIPE._replace(schedule="steps", decay_epochs=()), STEPS)
    assert {float(rate(step)) for step in range(EPOCHS * STEPS)} == {np.float32(0.2)}


PARAMS = {"plain": {"kernel": [1.0, -2.0]}, "compressed": {"deep": {"bank": [0.5, 3.0]}, "kernel": [-1.0]}}
LIGHTER = LighterDecay(frozenset({("compressed", "deep")}), 0.25)
FACTORS = {"plain": {"kernel": 1.0}, "compressed": {"deep": {"bank": 0.25}, "kernel": 1.0}}


def arrays(tree: Any, kind: Callable[[Any], Any]) -> Any:
    return jax.tree.map(lambda leaf: kind(leaf), tree, is_leaf=lambda leaf: isinstance(leaf, list))


def gradients(step):
    generator = np.random.default_rng(step)
    return jax.tree.map(lambda leaf: generator.normal(size=leaf.shape) * 3, arrays(PARAMS, np.asarray))


def by_hand(recipe, factors, steps):
    """Parameters after some steps, as PyTorch's SGD and Adam with clipped gradients have them."""
    leaves = [np.array(leaf, float) for leaf in jax.tree.leaves(arrays(PARAMS, np.asarray))]
    own = [recipe.weight_decay * factor for factor in jax.tree.leaves(factors)]
    first, second = ([np.zeros_like(leaf) for leaf in leaves] for _ in range(2))
    for step in range(steps):
        grads = jax.tree.leaves(gradients(step))
        norm = np.sqrt(sum(np.sum(grad**2) for grad in grads))
        shrink = min(1.0, recipe.clip / norm) if recipe.clip else 1.0
        rate = 0.2 * 0.5 * (1 + np.cos(np.pi * step / (EPOCHS * STEPS)))
        for number, (leaf, grad) in enumerate(zip(leaves, grads, strict=True)):
            change = shrink * grad + own[number] * leaf
            if recipe.optimizer == "sgd":
                first[number] = recipe.momentum * first[number] + change
                change = change + recipe.momentum * first[number] if recipe.nesterov else first[number]
            else:
                first[number] = recipe.momentum * first[number] + (1 - recipe.momentum) * change
                second[number] = 0.999 * second[number] + 0.001 * change**2
                mean = first[number] / (1 - recipe.momentum ** (step + 1))
                change = mean / (np.sqrt(second[number] / (1 - 0.999 ** (step + 1))) + 1e-8)
            leaf -= rate * change
    return leaves


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"momentum": 0.0},
        {"nesterov": True},
        {"clip": 1.5},
        {"weight_decay": 0.1},
        {"weight_decay": 0.1, "nesterov": True, "clip": 1.5},
        {"optimizer": "adam"},
        {"optimizer": "adam", "momentum": 0.5, "weight_decay": 0.1, "clip": 1.5},
    ],
    ids=str,
)
@pytest.mark.parametrize("lighter", [None, LIGHTER], ids=["all decay alike", "some decay less"])
def test_optimizers(changes, lighter):
    """Over four steps; the decay is added after the clipping and before the momentum."""
    recipe = RECIPE._replace(**changes)
    optimizer = optimizer_of(recipe, STEPS, lighter)
    params = arrays(PARAMS, lambda leaf: jnp.asarray(leaf, jnp.float32))
    state = optimizer.init(params)
    for step in range(4):
        grads = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), gradients(step))
        updates, state = optimizer.update(grads, state, params)
        params = optax.apply_updates(params, updates)
    factors = FACTORS if lighter else jax.tree.map(lambda _: 1.0, FACTORS)
    for found, expected in zip(jax.tree.leaves(params), by_hand(recipe, factors, 4), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_the_moving_average_forgets_its_start():
    """decay = min(0.8, (1 + t) / (10 + t)) at step t: unrolled, the weights of all that came sum to one."""
    values = np.random.default_rng(0).normal(size=(40, 3))
    average = {"params": jnp.asarray(values[0])}
    expected = values[0].copy()
    for step, value in enumerate(values[1:]):
        average = averaged(average, {"params": jnp.asarray(value)}, 0.8, jnp.asarray(step, jnp.int32))
        decay = min(0.8, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
    np.testing.assert_allclose(average["params"], expected, rtol=1e-5, atol=1e-6)
    constant = averaged({"a": jnp.ones(2)}, {"a": jnp.ones(2)}, 0.8, jnp.asarray(3))
    np.testing.assert_allclose(constant["a"], 1.0, rtol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schedule": "cosin"}, "unknown schedule 'cosin'; did you mean 'cosine'"),
        ({"precision": "float16"}, "unknown precision 'float16'; did you mean 'bfloat16'"),
        ({"optimizer": "adamw"}, "unknown optimizer 'adamw'; did you mean 'adam'"),
        ({"accumulate": 3}, "recipe.accumulate 3 does not divide the batch size 4"),
        ({"warmup_epochs": 6}, "recipe.warmup_epochs 6 leaves nothing of 6 epochs"),
    ],
)
def test_recipes_that_cannot_be(changes, message):
    with pytest.raises(UserError, match=message):
        check_recipe(RECIPE._replace(**changes))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_is_known(optimizer):
    check_recipe(RECIPE._replace(optimizer=optimizer))
