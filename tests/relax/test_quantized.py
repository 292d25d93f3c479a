"""Quantised weights and activations: their levels, and derivatives by the formulas of the papers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.relax.quantized import FULL, nearest_level, quantized_activations, quantized_weights, scaled_sign

BITS = range(1, 9)
RANDOM = np.random.default_rng(0)
ALPHA = np.asarray([1.5], np.float32)
UNIT = np.linspace(0, 1, 2001, dtype=np.float32)
VALUES = np.linspace(-1, 3, 2001, dtype=np.float32)
KERNEL = RANDOM.normal(size=(3, 3, 50, 6)).astype(np.float32)  # its channels' means differ by a few percent


def squashed(kernel):
    return np.tanh(kernel) / np.abs(np.tanh(kernel)).max()


@pytest.mark.parametrize("bits", BITS)
def test_levels(bits):
    """2^k of them at equal distances, in ascending order, each its own nearest and none farther than half a step."""
    steps = 2**bits - 1
    unit = np.asarray(nearest_level(UNIT, bits))
    activations = np.asarray(quantized_activations(VALUES, ALPHA, bits))
    ranges = [(unit, UNIT), (activations / ALPHA, np.clip(VALUES / ALPHA, 0, 1))]
    if bits > 1:  # one bit has a scale of its own
        weights = quantized_weights(jnp.sort(KERNEL.ravel())[:, None], bits).ravel()
        ranges.append(((np.asarray(weights) + 1) / 2, (squashed(np.sort(KERNEL.ravel())) + 1) / 2))
    for levels, exact in ranges:
        assert (np.diff(levels) >= 0).all()
        np.testing.assert_allclose(np.unique(np.round(levels, 6)), np.arange(steps + 1) / steps, atol=1e-6)
        assert np.abs(levels - exact).max() <= 0.5 / steps + 1e-6  # a few roundings in float32
    np.testing.assert_array_equal(nearest_level(unit, bits), unit)
    np.testing.assert_allclose(quantized_activations(activations, ALPHA, bits), activations, rtol=1e-6)


def test_many_bits_are_nearly_full_precision():
    """2^-8 of the range, with eight bits; a range of 2 for weights."""
    assert np.abs(quantized_weights(KERNEL, 8) - squashed(KERNEL)).max() < 2 * 2**-8
    assert np.abs(quantized_activations(VALUES, ALPHA, 8) - np.clip(VALUES, 0, 1.5)).max() < 1.5 * 2**-8
    assert quantized_weights(KERNEL, FULL) is KERNEL


def test_weights_of_one_bit_are_those_of_xnor_net():
    quantized = np.asarray(quantized_weights(KERNEL, 1))
    for channel in range(KERNEL.shape[-1]):
        own = np.asarray(KERNEL[..., channel])
        np.testing.assert_allclose(quantized[..., channel], np.where(own >= 0, 1, -1) * np.abs(own).mean(), rtol=1e-5)
    np.testing.assert_allclose(quantized_weights(jnp.asarray(quantized), 1), quantized, rtol=1e-5)


def test_the_best_scale_of_signs_is_that_of_one_bit():
    """mean |w| minimises the squared error, which XNOR-Net derives it from."""
    signs, kernel = np.sign(KERNEL[..., 0]).ravel(), np.asarray(KERNEL[..., 0]).ravel()
    (scale,), *_ = np.linalg.lstsq(signs[:, None], kernel, rcond=None)
    np.testing.assert_allclose(np.abs(scaled_sign(KERNEL)[0, 0, 0, 0]), scale, rtol=1e-5)


def reverse_and_forward(function, *arguments):
    """The cotangents that ones pull back to, and whether they are those of forward mode along a random direction."""
    weights, *directions = (RANDOM.standard_normal(each.shape, np.float32) for each in (arguments[0], *arguments))
    bars = jax.jit(lambda *arguments: jax.vjp(function, *arguments)[1](weights))(*arguments)
    _, along = jax.jit(lambda *both: jax.jvp(function, *both))(arguments, tuple(directions))
    both = [np.vdot(weights, along), sum(map(np.vdot, bars, directions))]
    np.testing.assert_allclose(*both, rtol=1e-3, atol=1e-3)  # sums of thousands of products
    return weights, bars


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_derivatives_of_activations(bits):
    points = np.asarray([-1.0, 0.0, 0.1, 0.7, 1.49, 1.5, 4.0], np.float32)
    weights, (bar, alpha_bar) = reverse_and_forward(lambda x, a: quantized_activations(x, a, bits), points, ALPHA)
    np.testing.assert_allclose(bar, weights * np.asarray([0, 1, 1, 1, 1, 0, 0]), rtol=1e-6)
    np.testing.assert_allclose(alpha_bar, weights[5:].sum(keepdims=True), rtol=1e-6)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_derivatives_of_weights(bits):
    """Of one bit those of the identity, else those of the weights before they are rounded."""
    weights, (bar,) = reverse_and_forward(lambda kernel: quantized_weights(kernel, bits), KERNEL)

    def unrounded(kernel):
        return jnp.tanh(kernel) / jnp.max(jnp.abs(jnp.tanh(kernel)))

    expected = weights if bits == 1 else jax.jit(lambda kernel: jax.vjp(unrounded, kernel)[1](weights)[0])(KERNEL)
    np.testing.assert_allclose(bar, expected, rtol=1e-4, atol=1e-4)


def test_a_clipping_level_may_vanish():
    for alpha in (0.0, -1.0):
        values, pullback = jax.vjp(lambda a: quantized_activations(VALUES, a, 2), jnp.asarray([alpha]))
        assert np.abs(values).max() <= 1e-6 and np.isfinite(pullback(jnp.ones_like(values))[0]).all()
