"""Equal blocks as a loop, and blocks that run again on the way back: the same numbers as copies that are kept."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxnas.networks.cell_network import CellNetwork, drop_path
from jaxnas.networks.repeated import run_blocks
from jaxnas.networks.residual_network import WideResNet
from jaxnas.spaces.genotype import Genotype
from tests.networks.random_variables import random_variables

CELL = (("skip_connect", 0), ("conv 3x3", 1))
# Twelve cells, the last two of each stage equal, and stages of which every width has equal blocks.
CELLS = CellNetwork(Genotype(CELL, (2,), CELL, (2,)), 2, 12, 3)
SHAPE = (8, 8, 1)
IMAGES = np.random.default_rng(0).normal(size=(4, *SHAPE))
NETWORKS = {"cells": CELLS, "wide resnet": WideResNet(16, 1, 3)}
FORMS = [("cells", {"looped": True}), ("cells", {"looped": True, "recomputed": True}), ("cells", {"recomputed": True})]
FORMS += [("wide resnet", {"recomputed": True})]


def gradients(network, variables, images, rate=0.0):
    def loss(params):
        keys = {"drop_path": jax.random.key(3)}
        (logits, _), changed = network.apply(
            variables | {"params": params},
            images,
            train=True,
            drop_path_rate=rate,
            rngs=keys,
            mutable=["batch_stats"],
        )
        return jnp.sum(jnp.sin(logits)), changed

    return jax.jit(jax.grad(loss, has_aux=True))(variables["params"])


@pytest.fixture(scope="module")
def plain():
    """In float64, so that what differs is not rounding."""
    with jax.enable_x64():
        made = {}
        for name, network in NETWORKS.items():
            variables = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), random_variables(network, SHAPE))
            made[name] = variables, IMAGES, gradients(network, variables, IMAGES)
        return made


@pytest.mark.parametrize(("name", "form"), FORMS)
def test_gradients_and_statistics_are_those_of_copies(name, form, plain):
    with jax.enable_x64():
        variables, images, expected = plain[name]
        found = gradients(NETWORKS[name].clone(**form), variables, images)
        assert jax.tree.structure(found) == jax.tree.structure(expected)
        largest = max(np.max(np.abs(leaf)) for leaf in jax.tree.leaves(expected[0]))
        # Normalisation amplifies rounding from cell to cell; float64 leaves many digits.
        close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-9 * largest)  # noqa: E731
        jax.tree.map(close, found, expected)


def test_a_loop_is_compiled_once():
    """Of twelve cells three pairs are equal, and in the program once: three cells' convolutions fewer."""
    variables = random_variables(CELLS, SHAPE)

    def count(network):
        answer = jax.make_jaxpr(lambda variables: network.apply(variables, IMAGES, train=False)[0])(variables)
        return str(answer).count("conv_general_dilated[")

    assert count(CELLS) - count(CELLS.clone(looped=True)) == 3  # a cell has one dense convolution


def test_evaluation_loops_as_training_does():
    variables = random_variables(CELLS, SHAPE)
    forms = (jax.jit(functools.partial(one.apply, train=False)) for one in (CELLS, CELLS.clone(looped=True)))
    expected, found = (form(variables, IMAGES)[0] for form in forms)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


class Dropped(nn.Module):
    """Adds 1 to the examples that it keeps, with half the chance."""

    @nn.compact
    def __call__(self, images):
        return images + drop_path(self, jnp.ones_like(images), 0.5) / 2


class Blocks(nn.Module):
    """Twelve of them; what comes out tells in how many an example was kept."""

    looped: bool

    @nn.compact
    def __call__(self, images):
        blocks = [Dropped(name=f"block_{number}") for number in range(12)]
        return run_blocks(self, blocks, images, lambda b, x: b(x), looped=self.looped, recomputed=False)


@pytest.mark.parametrize("looped", [False, True])
def test_every_block_drops_examples_of_its_own(looped):
    """With one mask for all, an example would be kept in all blocks or in none."""
    run = jax.jit(lambda images, key: Blocks(looped).apply({}, images, rngs={"drop_path": key}))
    kept = np.ravel(run(np.zeros((200, 1, 1, 1)), jax.random.key(0)))
    assert np.mean((kept == 0) | (kept == 12)) < 0.05
    # Binomial of 12 and 1/2: the mean of 200 is within 4 standard errors.
    assert abs(np.mean(kept) - 6) < 4 * (3 / 200) ** 0.5
