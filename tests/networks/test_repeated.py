"""Equal blocks as a loop, and blocks that run again on the way back: the same numbers as copies that are kept."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxnas.networks.cell_network import CellNetwork, drop_path
from jaxnas.networks.initial import init_variables
from jaxnas.networks.repeated import run_blocks
from jaxnas.networks.residual_network import WideResNet
from jaxnas.spaces.genotype import Genotype

CELL = (("skip_connect", 0), ("conv 3x3", 1))
# Twelve cells, the last two of each stage equal, and stages of which every width has equal blocks.
CELLS = CellNetwork(Genotype(CELL, (2,), CELL, (2,)), 2, 12, 3)
SHAPE = (8, 8, 1)
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
        images = jax.random.normal(jax.random.key(0), (4, *SHAPE), jnp.float64)
        made = {}
        for name, network in NETWORKS.items():
            variables = init_variables(network, jax.random.key(1), SHAPE)
            variables = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), variables)
            made[name] = variables, images, gradients(network, variables, images)
        return made


@pytest.mark.parametrize(("name", "form"), FORMS)
def test_gradients_and_statistics_are_those_of_copies(name, form, plain):
    with jax.enable_x64():
        variables, images, expected = plain[name]
        found = gradients(NETWORKS[name].clone(**form), variables, images)
        assert jax.tree.structure(found) == jax.tree.structure(expected)
        largest = max(float(jnp.max(jnp.abs(leaf))) for leaf in jax.tree.leaves(expected[0]))
        # Normalisation amplifies rounding from cell to cell; float64 leaves many digits.
        close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-9 * largest)  # noqa: E731
        jax.tree.map(close, found, expected)


def test_a_loop_is_compiled_once():
    """Of twelve cells three pairs are equal, and in the program once: three cells' convolutions fewer."""
    variables = init_variables(CELLS, jax.random.key(1), SHAPE)
    images = jnp.zeros((1, *SHAPE))

    def count(network):
        answer = jax.make_jaxpr(lambda variables: network.apply(variables, images, train=False)[0])(variables)
        return str(answer).count("conv_general_dilated[")

    assert count(CELLS) - count(CELLS.clone(looped=True)) == 3  # a cell has one dense convolution


def test_evaluation_loops_as_training_does():
    variables = init_variables(CELLS, jax.random.key(1), SHAPE)
    images = jax.random.normal(jax.random.key(0), (4, *SHAPE))
    expected, found = (one.apply(variables, images, train=False)[0] for one in (CELLS, CELLS.clone(looped=True)))
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
    kept = Blocks(looped).apply({}, jnp.zeros((200, 1, 1, 1)), rngs={"drop_path": jax.random.key(0)}).ravel()
    assert np.mean((kept == 0) | (kept == 12)) < 0.05
    # Binomial of 12 and 1/2: the mean of 200 is within 4 standard errors.
    assert abs(float(jnp.mean(kept)) - 6) < 4 * (3 / 200) ** 0.5
