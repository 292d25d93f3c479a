"""The candidate operations of a mixed edge, as pure functions over explicit weights.

Every operation maps a source [b, h, w, c] to [b, h / stride, w / stride, c]. All but the identity and the absent edge
end in batch normalisation without learned scale and shift, as DARTS has it while searching (Liu et al. 2019, appendix
A.1); pools too, unless they are bare. That last normalisation is left to the edge that mixes the operations, which does
it for all at once.
"""

import itertools
import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.core.types import Array, Key, PyTree
from jaxnas.layers.convolution import convolution, depthwise, pointwise
from jaxnas.layers.normalization import Statistics, batch_norm
from jaxnas.layers.pooling import avg_pool, max_pool

# Where weights start that are not drawn. As batch normalisation leaves them, a fortieth of the activations is above 2.
CONSTANTS: Mapping[str, float] = {"scale": 1.0, "shift": 0.0, "bias": 0.0, "mean": 0.0, "var": 1.0, "clip": 2.0}

Weights = Mapping[str, Array]
Shapes = Mapping[str, tuple[int, ...]]


class Source(NamedTuple):
    """What an edge reads: images [b, h, w, c] as they are, and rectified, which every convolution starts with."""

    raw: Array
    rectified: Array


class Operation(NamedTuple):
    """One candidate.

    shapes: (channels, stride) -> the shapes of its weights for one edge, {} where it has none.
    apply: (weights, source, stride, statistics) -> [b, h / stride, w / stride, c], before the last normalisation;
        `statistics` are those of the ones inside.
    normalized: stride -> whether the result is to be normalised.
    """

    shapes: Callable[[int, int], Shapes]
    apply: Callable[[Weights, Source, int, Statistics], Array]
    normalized: Callable[[int], bool] = lambda stride: True


def _no_weights(channels: int, stride: int) -> Shapes:
    del channels, stride
    return {}


def none() -> Operation:
    """The absent edge: zeros."""
    return Operation(
        _no_weights,
        lambda weights, source, stride, axis: jnp.zeros_like(source.raw[:, ::stride, ::stride]),
        normalized=lambda stride: False,
    )


def pool(function: Callable[..., Array], size: int, *, bare: bool = False) -> Operation:
    """Pooling over size × size pixels; normalised, unless `bare`."""
    return Operation(
        _no_weights,
        lambda weights, source, stride, axis: function(source.raw, stride=stride, size=size),
        normalized=lambda stride: not bare,
    )


def factorized_reduction(rectified: Array, even: Array, odd: Array) -> Array:
    """Halves the size without a kernel: 1×1 convolutions of the even and of the odd pixels, concatenated.

    rectified [b, h, w, c], kernels [c, d/2] each -> [b, h/2, w/2, d]. The height and width have to be even.
    """
    halves = pointwise(rectified[:, ::2, ::2], even), pointwise(rectified[:, 1::2, 1::2], odd)
    return jnp.concatenate(halves, axis=-1)


def skip_connect() -> Operation:
    """The identity, or a factorized reduction where the edge has stride 2."""

    def shapes(channels, stride):
        return {"even": (channels, channels // 2), "odd": (channels, channels // 2)} if stride == 2 else {}

    def apply(weights, source, stride, statistics):
        if stride == 1:
            return source.raw
        return factorized_reduction(source.rectified, weights["even"], weights["odd"])

    return Operation(shapes, apply, normalized=lambda stride: stride == 2)


def separable(size: int) -> Operation:
    """ReLU, depthwise, pointwise, normalise; twice. The stride is in the first half."""

    def shapes(channels, stride):
        del stride
        one = (size, size, channels), (channels, channels)
        return {"depthwise_1": one[0], "pointwise_1": one[1], "depthwise_2": one[0], "pointwise_2": one[1]}

    def apply(weights, source, stride, statistics):
        hidden = depthwise(source.rectified, weights["depthwise_1"], stride=stride)
        hidden = jax.nn.relu(batch_norm(pointwise(hidden, weights["pointwise_1"]), statistics))
        return pointwise(depthwise(hidden, weights["depthwise_2"]), weights["pointwise_2"])

    return Operation(shapes, apply)


def dilated(size: int) -> Operation:
    """ReLU, depthwise at dilation 2, pointwise, normalise."""

    def shapes(channels, stride):
        del stride
        return {"depthwise": (size, size, channels), "pointwise": (channels, channels)}

    def apply(weights, source, stride, statistics):
        hidden = depthwise(source.rectified, weights["depthwise"], stride=stride, dilation=2)
        return pointwise(hidden, weights["pointwise"])

    return Operation(shapes, apply)


def dense(*sizes: int) -> Operation:
    """ReLU, dense convolutions of these sizes one after another, normalise. The stride is in the last one."""

    def shapes(channels, stride):
        del stride
        return {f"kernel_{number}": (size, size, channels, channels) for number, size in enumerate(sizes, start=1)}

    def apply(weights, source, stride, statistics):
        hidden = source.rectified
        for number in range(1, len(sizes) + 1):
            hidden = convolution(hidden, weights[f"kernel_{number}"], stride=stride if number == len(sizes) else 1)
        return hidden

    return Operation(shapes, apply)


def convolution_of_rows(images: Array, kernel: Array, stride: int) -> Array:
    """Convolves the rows alone, and strides along them: [b, h, w, in], kernel [1, k, in, out] -> [b, h, w/stride, out].

    Every row becomes an image of height 1, so that a stride of both axes acts along one.
    """
    rows = convolution(images.reshape(-1, 1, *images.shape[2:]), kernel, stride=stride)
    return rows.reshape(*images.shape[:2], *rows.shape[2:])


def rows_then_columns(size: int) -> Operation:
    """ReLU, a dense 1×size convolution along the rows, one along the columns, normalise; each strides its own axis."""

    def shapes(channels, stride):
        del stride
        return {"rows": (1, size, channels, channels), "columns": (1, size, channels, channels)}

    def apply(weights, source, stride, statistics):
        hidden = source.rectified
        for name in ("rows", "columns"):
            hidden = convolution_of_rows(hidden, weights[name], stride).swapaxes(1, 2)
        return hidden

    return Operation(shapes, apply)


OPERATIONS: Mapping[str, Operation] = {
    "none": none(),
    **{f"max_pool_{size}x{size}": pool(max_pool, size) for size in (3, 5, 7)},
    **{f"avg_pool_{size}x{size}": pool(avg_pool, size) for size in (3, 5, 7)},
    "bare_avg_pool_3x3": pool(avg_pool, 3, bare=True),  # the pool of NAS-Bench-201 (Dong & Yang 2020)
    "skip_connect": skip_connect(),
    "sep_conv_3x3": separable(3),
    "sep_conv_5x5": separable(5),
    "sep_conv_7x7": separable(7),
    "dil_conv_3x3": dilated(3),
    "dil_conv_5x5": dilated(5),
    "conv 1x1": dense(1),
    "conv 3x3": dense(3),
    "conv_1x1_3x3": dense(1, 3),
    "conv_3x1_1x3": rows_then_columns(3),
}


def init_weights(key: Key, shapes: PyTree, leading: tuple[int, ...] = ()) -> PyTree:
    """Draws weights U(±1/√fan-in), PyTorch's default for convolutions, with `leading` axes in front of every shape.

    shapes: a pytree of shapes: pointwise kernels [in, out], depthwise [k, k, c] (fan-in k²), dense [k, k, in, out].
    All weights come from one draw, which compiles in a fraction of the time of a draw for each.
    """
    leaves, structure = jax.tree.flatten(shapes, is_leaf=lambda node: isinstance(node, tuple))
    sizes = [math.prod((*leading, *shape)) for shape in leaves]
    drawn = jax.random.uniform(key, (sum(sizes),), minval=-1.0)
    bounds = itertools.pairwise(np.cumsum([0, *sizes]).tolist())
    weights = [
        drawn[start:end].reshape(*leading, *shape) * _fan_in(shape) ** -0.5
        for (start, end), shape in zip(bounds, leaves, strict=True)
    ]
    return jax.tree.unflatten(structure, weights)


def _fan_in(shape: tuple[int, ...]) -> int:
    if len(shape) == 2:
        return shape[0]
    return math.prod(shape[:2]) if len(shape) == 3 else math.prod(shape[:3])
