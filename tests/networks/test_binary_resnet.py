"""XNOR networks: convolutions of signs by loops, their derivatives by formula, and what they are made of by hand."""

import functools
from typing import Any

import jax
import numpy as np
import pytest
from jax import lax

from jaxnas.core.errors import UserError
from jaxnas.evaluate.description import describe_network
from jaxnas.networks.binary_resnet import STOCHASTIC, BinaryConvolution, XnorResNet
from jaxnas.relax.binary import SURROGATES
from tests.networks.random_variables import random_variables

# Activations and weights on both sides of ±1, where gradients end, and a zero, whose sign is +1.
IMAGES = np.float32(1.5 * np.random.default_rng(1).normal(size=(2, 5, 4, 3)))
IMAGES[0, 0, 0, 0] = 0.0
KERNEL = np.float32(np.random.default_rng(2).normal(size=(3, 3, 3, 2)))


@functools.partial(jax.jit, static_argnames=("gradient", "stride", "train"))
def answer(kernel, images, gradient="clipped", stride=1, train=True, key=None) -> Any:
    module = BinaryConvolution(kernel.shape[-1], kernel.shape[0], stride, gradient)
    rngs = {} if key is None else {"signs": key}
    return module.apply({"params": {"kernel": kernel}}, images, train, rngs=rngs)


def signs(values):
    return np.where(np.asarray(values) >= 0, 1.0, -1.0)


@pytest.mark.parametrize("stride", [1, 2])
def test_a_binary_convolution_is_a_scaled_sum_of_signs(stride):
    padded = np.pad(signs(IMAGES), ((0, 0), (1, 1), (1, 1), (0, 0)))  # beyond the border there is no sign
    binary = signs(KERNEL)
    found = np.asarray(answer(KERNEL, IMAGES, stride=stride))
    assert found.shape == (2, -(-5 // stride), -(-4 // stride), 2)
    for b, i, j, c in np.ndindex(found.shape):
        window = padded[b, i * stride : i * stride + 3, j * stride : j * stride + 3]
        scale = np.mean(np.abs(np.asarray(KERNEL)[..., c]))
        np.testing.assert_allclose(found[b, i, j, c], scale * np.sum(window * binary[..., c]), rtol=1e-5, atol=1e-5)


def plain(images, kernel):
    return lax.conv_general_dilated(
        images, kernel, (1, 1), ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def pulled_back(gradient, key=None):
    """Derivatives for kernel and images: as the module has them, and of the plain convolution with its two operands."""
    cotangent = np.cos(np.arange(80.0, dtype=np.float32)).reshape(2, 5, 4, 2)

    @functools.partial(jax.jit, static_argnums=0)
    def pulled(function, *operands):
        output, pull = jax.vjp(function, *operands)
        assert output.shape == cotangent.shape
        return pull(cotangent)

    own = pulled(lambda kernel, images: answer(kernel, images, gradient, key=key), KERNEL, IMAGES)
    scale = np.mean(np.abs(KERNEL), axis=(0, 1, 2))
    return own, pulled(plain, np.float32(signs(IMAGES)), np.float32(signs(KERNEL) * scale))


@pytest.mark.parametrize("gradient", SURROGATES)
def test_activations_learn_by_the_surrogate(gradient):
    (_, found), (signs_bar, _) = pulled_back(gradient)
    slope = np.asarray(jax.jit(SURROGATES[gradient]())(IMAGES))
    np.testing.assert_allclose(found, slope * signs_bar, rtol=1e-4, atol=1e-5)


def test_weights_learn_through_their_signs_and_their_scale():
    """dL/dw = α dL/dB where |w| ≤ 1, plus sign(w) / n times the sum of dL/dB · sign over the n weights of a channel."""
    (found, _), (_, kernel_bar) = pulled_back("clipped")
    kernel, bar = np.asarray(KERNEL), np.asarray(kernel_bar)
    scale = np.mean(np.abs(kernel), axis=(0, 1, 2))
    assert (np.abs(kernel) > 1).any()
    through_signs = scale * bar * (np.abs(kernel) <= 1)
    through_scale = signs(kernel) / 27 * np.sum(bar * signs(kernel), axis=(0, 1, 2))
    np.testing.assert_allclose(found, through_signs + through_scale, rtol=1e-4, atol=1e-5)


def test_stochastic_signs_are_drawn_in_training_only():
    """Of 4000 draws the mean is the clipped activation, within four standard errors."""
    values = np.asarray([-2.0, -0.6, 0.0, 0.3, 1.0], np.float32)
    images = np.broadcast_to(values, (4000, 5))[:, None, :, None]
    kernel = np.full((1, 1, 1, 1), np.float32(0.5))  # so that outputs are half the signs
    keys = (jax.random.key(seed) for seed in (0, 1))
    drawn, again = (np.asarray(answer(kernel, images, STOCHASTIC, key=key)) for key in keys)
    assert set(np.unique(drawn).tolist()) == {-0.5, 0.5} and np.any(drawn != again)
    expected = 0.5 * np.clip(values, -1, 1)
    error = np.sqrt((0.25 - expected**2) / 4000)
    assert np.all(np.abs(np.mean(drawn, axis=(0, 1, 3)) - expected) <= 4 * error + 1e-6)
    still = answer(kernel, images, STOCHASTIC, train=False)
    np.testing.assert_array_equal(still, 0.5 * signs(images))


def test_stochastic_signs_pass_the_derivative_of_their_mean():
    (_, found), (signs_bar, _) = pulled_back(STOCHASTIC, jax.random.key(3))
    np.testing.assert_allclose(found, signs_bar * (np.abs(IMAGES) < 1), rtol=1e-4, atol=1e-5)


def counts(width, channels, classes, depths, size):
    """By hand: {"binary_params", "binary_mult_adds", "params", "mult_adds"}."""
    binary = binary_work = 0
    params, work = 9 * channels * width + 2 * width, 9 * channels * width * size**2
    features = width
    for group, depth in enumerate(depths):
        if group:
            size //= 2
            params += 2 * features**2 + 2 * 2 * features  # the shortcut and its normalisation
            work += 2 * features**2 * size**2
        for number in range(2 * depth):
            inputs, own = (features, 2 * features) if group and number == 0 else (features, features)
            binary += 9 * inputs * own
            binary_work += 9 * inputs * own * size**2
            params += 2 * own
            features = own
    params, work = params + (features + 1) * classes, work + features * classes
    return {
        "params": params + binary,
        "mult_adds": work + binary_work,
        "binary_params": binary,
        "binary_mult_adds": binary_work,
    }


@pytest.mark.parametrize(
    ("width", "depths", "shape", "classes"), [(96, (2, 2, 2, 2), (32, 32, 3), 10), (4, (1, 2), (8, 8, 1), 5)]
)
def test_binary_and_other_numbers_are_counted_apart(width, depths, shape, classes):
    network = XnorResNet(width, classes, depths=depths)
    assert describe_network(network, shape) == counts(width, shape[-1], classes, depths, shape[0])


def test_the_published_width_has_so_many_parameters():
    assert counts(96, 3, 10, (2, 2, 2, 2), 32)["params"] == 25_129_066


@pytest.mark.parametrize("gradient", ["clipped", STOCHASTIC])
def test_a_network_answers_by_its_running_statistics(gradient):
    """Without randomness and the batch: an example alone is answered as among others."""
    network = XnorResNet(2, 3, gradient, depths=(1, 1))
    images = np.random.default_rng(4).normal(size=(3, 4, 4, 1))
    variables = random_variables(network, images.shape[1:])
    apply = jax.jit(functools.partial(network.apply, train=False))
    (logits, _), (alone, _) = jax.device_get((apply(variables, images), apply(variables, images[:1])))
    assert logits.shape == (3, 3)
    np.testing.assert_allclose(alone, logits[:1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"gradient": "cliped"}, "unknown gradient through signs 'cliped'; did you mean 'clipped'"),
        ({"width": 0}, "at least 1 of width, not 0"),
        ({"depths": (1, 0)}, "at least 1 of depths, not 0"),
        ({"depths": ()}, "at least 1 of depths, not 0"),
    ],
)
def test_impossible_networks_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        XnorResNet(**{"width": 2, "classes": 3} | settings)
