"""A hypernetwork writes kernels of ordinary variance, each from its row's encoding and those of its neighbours."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.core.errors import UserError
from jaxnas.networks.hypernetwork import convolved, hypernetwork

FEATURES, DEPTH = 5, 2
KERNELS = ((24, 16), (8, 12), (24, 16), (24, 16), (8, 12), (24, 16), (24, 16), (24, 16), (24, 16))
NETWORK = hypernetwork(FEATURES, KERNELS, hidden=64, depth=DEPTH)
PARAMS = jax.jit(NETWORK.init)(jax.random.key(0))
ENCODING = np.float32(np.random.default_rng(1).random((len(KERNELS), FEATURES)) < 0.4)
generate = jax.jit(NETWORK.generate)


def test_a_kernel_for_every_row_in_its_shape():
    assert [kernel.shape for kernel in generate(PARAMS, ENCODING)] == list(KERNELS)


def test_kernels_begin_with_the_variance_of_ordinary_ones():
    """1 / (3 · in), of 64 kernels at once: 2,400 numbers and more, a tenth is four standard deviations."""
    keys = jax.random.split(jax.random.key(2), 64)
    draw = jax.jit(jax.vmap(lambda key: NETWORK.generate(NETWORK.init(key), ENCODING)))
    for kernel, shape in zip(jax.device_get(draw(keys)), KERNELS, strict=True):
        assert np.var(kernel) * 3 * shape[0] == pytest.approx(1.0, rel=0.1)
        assert abs(np.mean(kernel)) < 0.1 * np.std(kernel)


@pytest.mark.parametrize("row", [0, 4])
def test_a_kernel_depends_on_the_rows_within_reach_and_on_no_other(row):
    """Depth layers and a last one see one row more to either side each."""

    def corner(encoding):
        return NETWORK.generate(PARAMS, encoding)[row][0, 0]

    depends = np.any(np.asarray(jax.jit(jax.grad(corner))(ENCODING)) != 0, axis=-1)
    assert depends.tolist() == [abs(other - row) <= DEPTH + 1 for other in range(len(KERNELS))]


def test_rows_of_one_encoding_and_shape_have_kernels_of_their_own():
    kernels = generate(PARAMS, np.zeros_like(ENCODING))
    assert np.corrcoef(np.ravel(kernels[2]), np.ravel(kernels[3]))[0, 1] < 0.9


def test_the_norm_of_a_convolution_does_not_count():
    """It is weight-normalised: a kernel that is ten times as large does the same."""
    generator = np.random.default_rng(3)
    states, kernel = generator.normal(size=(4, 6)), generator.normal(size=(18, 3))
    once, again = (jax.jit(convolved, static_argnums=2)(states, scale * kernel, True) for scale in (1, 10))
    np.testing.assert_allclose(once, again, rtol=1e-5, atol=1e-6)


def test_all_weights_learn_and_a_batch_of_architectures_is_what_each_gives():
    gradient = jax.jit(jax.grad(lambda params: sum(jnp.sum(k**3) for k in NETWORK.generate(params, ENCODING))))(PARAMS)
    assert all(np.any(leaf != 0) for leaf in jax.tree.leaves(jax.device_get(gradient)))
    together = jax.jit(jax.vmap(NETWORK.generate, (None, 0)))(PARAMS, np.stack([ENCODING, 1 - ENCODING]))
    for both, alone in zip(together, generate(PARAMS, 1 - ENCODING), strict=True):
        np.testing.assert_allclose(np.asarray(both)[1], alone, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"kernels": ()}, "has to write at least one kernel"),
        ({"features": 0}, "features of a hypernetwork is 0"),
        ({"hidden": 0}, "hidden of a hypernetwork is 0"),
        ({"depth": 0}, "depth of a hypernetwork is 0"),
    ],
)
def test_settings_that_make_no_hypernetwork(changed, message):
    settings = {"features": 1, "kernels": KERNELS, "hidden": 1, "depth": 1} | changed
    with pytest.raises(UserError, match=message):
        hypernetwork(settings.pop("features"), settings.pop("kernels"), **settings)
