"""Every fast primitive equals the library's one in values and gradients, over sizes, kernels, strides and dilations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.layers import backend
from jaxnas.layers.convolution import convolution, depthwise
from jaxnas.layers.normalization import EPSILON, batch_norm, normalized_sum
from jaxnas.layers.pooling import avg_pool, max_pool

GEOMETRIES = [
    (size, kernel, stride, dilation)
    for size in [(6, 6), (7, 5)]
    for kernel in (1, 3, 5)
    for stride in (1, 2)
    for dilation in (1, 2)
    if not (kernel == 1 and dilation == 2)
]


def value_and_gradients(function, implementation, *arrays):
    """The function's value and the gradients of Σ sin(value), compiled under one implementation."""

    def loss(*arrays):
        value = function(*arrays)
        return jnp.sum(jnp.sin(value)), value

    with backend.use(implementation):
        compiled = jax.jit(jax.value_and_grad(loss, argnums=tuple(range(len(arrays))), has_aux=True))
        (_, value), gradients = compiled(*arrays)
    return value, *gradients


def assert_same(function, *arrays):
    expected = value_and_gradients(function, "library", *arrays)
    actual = value_and_gradients(function, "cpu", *arrays)
    for a, b in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-5)  # float32 sums of some hundred terms


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def images_of(size, channels=3, batch=2):
    return normal(batch, *size, channels)


@pytest.mark.parametrize(("size", "kernel", "stride", "dilation"), GEOMETRIES)
def test_convolution(size, kernel, stride, dilation):
    weights = normal(kernel, kernel, 3, 4, seed=1)
    assert_same(lambda x, w: convolution(x, w, stride=stride, dilation=dilation), images_of(size), weights)


@pytest.mark.parametrize("padding", [((0, 0), (0, 0)), ((1, 0), (0, 2))])
def test_convolution_with_explicit_padding(padding):
    weights = normal(2, 2, 3, 4, seed=1)
    assert_same(lambda x, w: convolution(x, w, padding=padding), images_of((6, 5)), weights)


@pytest.mark.parametrize(("size", "kernel", "stride", "dilation"), GEOMETRIES)
def test_depthwise(size, kernel, stride, dilation):
    weights = normal(kernel, kernel, 3, seed=1)
    assert_same(lambda x, w: depthwise(x, w, stride=stride, dilation=dilation), images_of(size), weights)


@pytest.mark.parametrize("padding", [((0, 0), (0, 0)), ((3, 0), (0, 2))])
def test_depthwise_with_explicit_padding(padding):
    weights = normal(3, 2, 3, seed=1)
    assert_same(lambda x, w: depthwise(x, w, stride=2, padding=padding), images_of((6, 5)), weights)


@pytest.mark.parametrize("pool", [max_pool, avg_pool])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(
    ("window", "size"), [(3, (6, 6)), (3, (7, 5)), (5, (6, 6)), (5, (7, 5)), (7, (7, 10)), (7, (2, 3))]
)
def test_pooling(pool, window, stride, size):
    """Over windows larger than the images, too."""
    assert_same(lambda x: pool(x, stride=stride, size=window), images_of(size))


@pytest.mark.parametrize("window", [3, 5, 7])
def test_average_pool_leaves_padding_out_of_the_mean(window):
    np.testing.assert_allclose(avg_pool(jnp.ones((1, 4, 4, 1)), stride=1, size=window), 1.0, rtol=1e-6)


@pytest.mark.parametrize("stride", [1, 2])
def test_every_tap_of_a_large_window_can_win(stride):
    """One pixel above all others, at each position in turn, takes the gradient of every window that holds it."""
    peaks = jnp.eye(49).reshape(49, 7, 7, 1)
    with backend.use("cpu"):
        pulled = jax.grad(lambda x: jnp.sum(max_pool(x, stride=stride, size=7)))(peaks)
    reach = np.asarray([len([c for c in range(0, 7, stride) if abs(c - at) <= 3]) for at in range(7)])
    np.testing.assert_array_equal(jnp.sum(pulled * peaks, axis=(1, 2, 3)).reshape(7, 7), np.outer(reach, reach))


def test_max_pool_gives_a_tie_to_one_input_only():
    gradient = jax.grad(lambda x: jnp.sum(max_pool(x, stride=2)))(jnp.zeros((1, 4, 4, 1)))
    assert float(jnp.sum(gradient)) == 4.0  # four windows, one winner each


def test_batch_norm_against_autodiff():
    def reference(x):
        mean = jnp.mean(x, (0, 1, 2))
        return (x - mean) / jnp.sqrt(jnp.mean((x - mean) ** 2, (0, 1, 2)) + EPSILON)

    x = 3 + 2 * images_of((5, 4))
    expected = value_and_gradients(reference, "library", x)
    for a, b in zip(value_and_gradients(batch_norm, "library", x), expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("axis_name", [None, "devices"])
def test_normalized_sum_is_the_sum_of_batch_norms(axis_name):
    """In values and in gradients, on one device and with statistics shared by two, where the gradients are local."""
    images = [1 + scale * images_of((5, 4)) for scale in (1.0, 2.0, 0.5)]
    gates = np.asarray([0.2, 0.5, -0.3], np.float32)

    def apart(images, gates):
        return sum(gate * batch_norm(one, axis_name) for gate, one in zip(gates, images, strict=True))

    def together(images, gates):
        return normalized_sum(images, gates, axis_name)

    def gradients(function):
        def loss(images, gates):
            return jnp.sum(jnp.sin(function(images, gates)))

        differentiated = jax.value_and_grad(loss, argnums=(0, 1))
        if axis_name is None:
            return jax.jit(differentiated)(images, gates)
        halves = [one.reshape(2, -1, *one.shape[1:]) for one in images]
        return jax.pmap(differentiated, axis_name=axis_name, in_axes=(0, None))(halves, gates)

    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), gradients(together), gradients(apart)
    )


def test_batch_norm_of_a_large_mean():
    """Float32 resolves a ten-thousandth of the standard deviation here; the variance must not lose more."""
    normalised = batch_norm(100.0 + 0.1 * images_of((16, 16)))
    np.testing.assert_allclose(jnp.std(normalised, axis=(0, 1, 2)), 1.0, atol=2e-3)


@pytest.mark.parametrize("primitive", ["convolution", "depthwise", "max_pool", "avg_pool"])
def test_same_inside_scan_and_vmap(primitive):
    """Loops and batching over weights change nothing: the derivative rules hold under both transformations."""
    x = normal(3, 2, 5, 5, 4)
    shapes = {"convolution": (3, 3, 3, 4, 4), "depthwise": (3, 3, 3, 4)}
    w = normal(*shapes.get(primitive, (3, 1)), seed=1)
    functions = {
        "convolution": convolution,
        "depthwise": depthwise,
        "max_pool": lambda x, w: max_pool(x, stride=1) * w,
        "avg_pool": lambda x, w: avg_pool(x, stride=1) * w,
    }

    def gradients(x, w):
        return jax.grad(lambda x, w: jnp.sum(jnp.sin(functions[primitive](x, w))), argnums=(0, 1))(x, w)

    with backend.use("cpu"):
        one_by_one = [jax.jit(gradients)(x[i], w[i]) for i in range(3)]
        stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *one_by_one)
        scanned = jax.jit(lambda x, w: jax.lax.scan(lambda _, xw: (None, gradients(*xw)), None, (x, w))[1])(x, w)
        mapped = jax.jit(jax.vmap(gradients))(x, w)
    for other in (scanned, mapped):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), other, stacked)
