"""A linear ShuffleNet block: 1×1 convolutions in groups into a bottleneck and out of it, depthwise in between.

Source: ShuffleNet (Zhang et al. 2018); linear, and as a substitute, Gray, Crowley & Storkey 2019.
"""

from math import gcd, prod

import jax.numpy as jnp

from jaxnas.core.types import Array
from jaxnas.layers.convolution import Padding, channel_shuffle, depthwise, grouped_pointwise
from jaxnas.layers.substitutes.kinds import Dense, Factor, Substitute, Weights, substitute
from jaxnas.layers.substitutes.separable import POINT, sampled


def _bottleneck(dense: Dense) -> int:
    return max(1, dense.features // 4)


def shuffle_bounds(dense: Dense) -> tuple[int, int]:
    """Groups up to the most that divide inputs, features and bottleneck."""
    return 1, gcd(dense.inputs, dense.features, _bottleneck(dense))


def shuffle(dense: Dense, groups: int) -> Substitute:
    """1×1 in groups to features // 4 channels, shuffle, depthwise, 1×1 in groups.

    A number of groups that does not divide inputs, features and bottleneck counts as the next smaller one that does.
    """
    most = shuffle_bounds(dense)[1]
    groups = next(divisor for divisor in range(groups, 0, -1) if most % divisor == 0)
    inputs, middle, point = dense.inputs, _bottleneck(dense), dense.size == POINT
    factors = {
        "contract": Factor((inputs // groups, middle), groups / inputs),
        **({} if point else {"depthwise": Factor((*dense.size, middle), 1 / prod(dense.size))}),
        "expand": Factor((middle // groups, dense.features), dense.gain * groups / middle),
    }

    def contracted(weights: Weights, images: Array) -> Array:
        return channel_shuffle(grouped_pointwise(images, weights["contract"], groups), groups)

    def apply(weights: Weights, images: Array, stride: int, padding: Padding | None) -> Array:
        images = contracted(weights, sampled(images, stride, padding) if point else images)
        if not point:
            images = depthwise(images, weights["depthwise"], stride=stride, padding=padding)
        return grouped_pointwise(images, weights["expand"], groups)

    def kernel(weights: Weights) -> Array:
        into = contracted(weights, jnp.eye(inputs))
        out = grouped_pointwise(jnp.eye(middle), weights["expand"], groups)
        taps = jnp.ones((1, 1, middle)) if point else weights["depthwise"]
        return jnp.einsum("im,hwm,mo->hwio", into, taps, out)

    return substitute(factors, apply, kernel)
