"""Weights and activations of few bits: rounded forward, straight through (Bengio et al. 2013) backward.

A number of k bits takes one of 2^k values and is kept in floating point, so that networks answer as they would in k
bits, but no faster. Derivatives are right in forward and in reverse mode.
"""

import functools

import jax
import jax.numpy as jnp

from jaxnas.core.types import Array
from jaxnas.relax.binary import sign

FULL = 32  # the bits of a number that is not quantised
UNQUANTIZED = FULL, FULL  # weights and activations
SMALLEST = 1e-6  # clipping levels, and largest weights of a kernel, below this count as this


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def nearest_level(values: Array, bits: int) -> Array:
    """Q_k(r) = round((2^k - 1) r) / (2^k - 1), the nearest of 2^k levels from 0 to 1; its derivative counts as 1.

    values: any shape, from 0 to 1. Source: DoReFa-Net (Zhou et al. 2016, section 2.2).
    """
    steps = 2**bits - 1
    return jnp.round(values * steps) / steps


@nearest_level.defjvp
def _nearest_level_jvp(bits, primals, tangents):
    return nearest_level(*primals, bits), tangents[0]


@jax.custom_jvp
def scaled_sign(kernel: Array) -> Array:
    """sign(w) · mean |w|, the mean over each output channel of a kernel [..., out]; its derivative counts as 1.

    Source: XNOR-Net (Rastegari et al. 2016) for the scale of each channel, DoReFa-Net (section 2.3) for the derivative.
    """
    return sign(kernel) * jnp.mean(jnp.abs(kernel), axis=tuple(range(kernel.ndim - 1)))


@scaled_sign.defjvp
def _scaled_sign_jvp(primals, tangents):
    return scaled_sign(*primals), tangents[0]


def quantized_weights(kernel: Array, bits: int) -> Array:
    """A kernel [..., out] in so many bits, in the same shape.

    1 bit: `scaled_sign`. k bits: 2 Q_k(tanh w / (2 max |tanh w|) + 1/2) - 1, the maximum being over the kernel: from -1
    to 1, so that a normalisation is to follow. FULL: the kernel itself.
    Source: DoReFa-Net (Zhou et al. 2016, section 2.3).
    """
    if bits == FULL:
        return kernel
    if bits == 1:
        return scaled_sign(kernel)
    squashed = jnp.tanh(kernel)
    largest = jnp.maximum(jnp.max(jnp.abs(squashed)), SMALLEST)
    return 2 * nearest_level(squashed / (2 * largest) + 0.5, bits) - 1


@functools.partial(jax.custom_jvp, nondiff_argnums=(2,))
def quantized_activations(values: Array, clip: Array, bits: int) -> Array:
    """α Q_k(clip(x, 0, α) / α): values [...] as the nearest of 2^k levels from 0 to α = clip, [] or [1].

    The derivative in x counts as 1 where 0 ≤ x < α and as 0 elsewhere, that in α as 1 where x ≥ α and as 0 elsewhere.
    Source: PACT (Choi et al. 2018, eq. 1-3).
    """
    clip = jnp.maximum(clip, SMALLEST)
    return clip * nearest_level(jnp.clip(values / clip, 0, 1), bits)


@quantized_activations.defjvp
def _quantized_activations_jvp(bits, primals, tangents):
    (values, clip), (along_values, along_clip) = primals, tangents
    inside = jnp.where((values >= 0) & (values < clip), along_values, 0)
    return quantized_activations(values, clip, bits), inside + jnp.where(values >= clip, along_clip, 0)
