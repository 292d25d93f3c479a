"""The supernet of ENAS's macro space: every layer mixes its operations and the states it adds, as its gates say.

It normalises by the statistics of its batches and learns a scale and a shift after each normalisation, as published
(Pham et al. 2018, section 2.3). All layers have the same channels.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxnas.core.keys import named
from jaxnas.core.types import Array, Dropout, Gates, Key, Network, Params, PyTree
from jaxnas.layers.convolution import convolution, depthwise
from jaxnas.layers.normalization import Statistics, leading
from jaxnas.layers.operations import factorized_reduction
from jaxnas.networks.chain_supernet import (
    Shapes,
    Weights,
    constant_or_drawn,
    linear,
    linear_shapes,
    normalized,
    normalized_shapes,
)
from jaxnas.networks.choice import materialized, run_paths
from jaxnas.networks.enas_macro import POOLS, check_channels
from jaxnas.networks.family import Images
from jaxnas.networks.nas_bench_201 import check_size
from jaxnas.spaces.enas_macro import OPERATIONS, PART, SKIPS, Operation, reductions, skip_edges


def operation_shapes(operation: Operation, channels: int) -> Shapes:
    """The shapes of an operation's weights, its 1×1 convolution included."""
    kind, size = operation
    shapes: dict[str, Any] = {"input": normalized_shapes((1, 1, channels, channels))}
    if kind == "sep_conv":
        shapes["depthwise"] = {"kernel": (size, size, channels)}
    if kind not in POOLS:
        last = 1 if kind == "sep_conv" else size
        shapes["output"] = normalized_shapes((last, last, channels, channels))
    return shapes


def stages(layers: int) -> tuple[range, ...]:
    """The layers of one size, which share a compiled loop body; layers are numbered from 1."""
    first, second = reductions(layers)
    return range(1, first + 1), range(first + 1, second + 1), range(second + 1, layers + 1)


def run_operation(name: str, statistics: Statistics, images: Array, weights: Weights, noise: None = None) -> Array:
    """One operation with its weights among those of all: images [b, h, w, c] -> [b, h, w, c]."""
    del noise  # there is nothing to drop
    (kind, size), own = OPERATIONS[name], weights[name]

    def convolved(own: Weights, images: Array) -> Array:
        return jax.nn.relu(normalized(own, convolution(images, own["kernel"]), statistics))

    hidden = convolved(own["input"], images)
    if kind in POOLS:
        return POOLS[kind](hidden, stride=1, size=size)
    if kind == "sep_conv":
        hidden = depthwise(hidden, own["depthwise"]["kernel"])
    return convolved(own["output"], hidden)


def skip_factors(gates: Array, layers: int, paths: int | None) -> Array:
    """What multiplies which state in which layer, [layers, layers + 1], of the gates of skips: the gate of adding it.

    With one path a state that is not added has neither factor nor gradient.
    """
    added = gates[:, 1]
    added = jnp.where(jnp.argmax(gates, axis=-1) == 1, added, 0.0) if paths == 1 else added
    state, layer = np.asarray(skip_edges(layers)).T
    return jnp.zeros((layers, layers + 1), added.dtype).at[layer - 1, state].set(added)


def reduce_states(weights: Weights, states: Array, statistics: Statistics) -> Array:
    """Halves states [states, b, h, w, c], each with its own weights: 1×1 convolutions of even and odd pixels."""

    def reduced(own: Weights, state: Array) -> Array:
        return normalized(own, factorized_reduction(state, own["even"]["kernel"], own["odd"]["kernel"]), statistics)

    return jax.vmap(reduced)(weights, states)


def enas_macro_supernet(
    images: Images,
    channels: int,
    layers: int,
    operations: Sequence[str],
    *,
    paths: int | None = None,
    bare_gates: bool = False,
    recompute: bool = False,
    calibrate: int = 0,
) -> Network:
    """The supernet over gates {"operations": [layers, operations], "skips": [layers · (layers - 1) / 2, 2]}.

    channels: of all layers. paths: how many operations run in a layer, those of the largest gates; None for all. What a
    layer adds, see `skip_factors`. recompute, calibrate: as for `networks.chain_supernet`. bare_gates changes nothing:
    whatever reads a state normalises it, so that a constant added to it, which a bare gate is, has no gradient.
    Raises UserError for an odd number of channels and, when applied, for images that cannot be halved twice.
    """
    del bare_gates
    check_channels(channels)
    statistics, few = leading(images.axis_name, calibrate), paths and min(paths, len(operations))
    branches = tuple(functools.partial(run_operation, name, statistics) for name in operations)

    def init(key: Key) -> Params:
        return _initial(key, channels, layers, operations, images)

    def mixture(hidden: Array, weights: Weights, gates: Array) -> Array:
        outputs = (gate * branch(hidden, weights) for gate, branch in zip(gates, branches, strict=True))
        return functools.reduce(jnp.add, outputs)

    def run_layer(hidden: Array, weights: Weights, gates: Array) -> Array:
        if few:
            return run_paths(branches, few, False, hidden, weights, gates)
        return (jax.checkpoint(mixture) if recompute else mixture)(hidden, weights, gates)

    def body(carried: tuple[Array, Array], scanned: PyTree) -> tuple[tuple[Array, Array], None]:
        (states, hidden), (number, weights, gates, factors, own) = carried, scanned
        output = run_layer(hidden, materialized(weights), gates)
        # A sum of products, which accelerators do not round as they would a matrix product.
        total = output + jnp.sum(factors[:, None, None, None, None] * states, axis=0)
        # The first layer, which has nothing to add, is not normalised again.
        hidden = jnp.where(number == 1, output, normalized(own, total, statistics))
        return (lax.dynamic_update_index_in_dim(states, hidden, number, 0), hidden), None

    def apply(params: Params, gates: Gates, batch: Array, noise: Dropout | None = None) -> Array:
        del noise
        check_size(batch)
        factors = skip_factors(gates[SKIPS], layers, paths)
        sums = jax.tree.map(lambda leaf: jnp.concatenate([leaf[:1], leaf]), params["sums"])  # the first is not used
        hidden = normalized(params["stem"], convolution(batch, params["stem"]["kernel"]), statistics)
        states = hidden[None]
        for stage, numbers in enumerate(stages(layers)):
            if stage:
                states = reduce_states(params[f"reduction_{stage}"], states, statistics)
                hidden = states[-1]
            here = slice(numbers[0] - 1, numbers[-1])
            states = jnp.pad(states, ((0, len(numbers)), *((0, 0),) * hidden.ndim))
            of_layers = jax.tree.map(lambda leaf, here=here: leaf[here], (gates[PART], factors[:, : len(states)], sums))
            scanned = (jnp.asarray(numbers), params[f"stage_{stage}"], *of_layers)
            (states, hidden), _ = lax.scan(body, (states, hidden), scanned)
        return linear(params["classifier"], jnp.mean(hidden, axis=(1, 2)))

    return Network(init, apply, lambda gates: _active(init, operations, gates))


def _initial(key: Key, channels: int, layers: int, operations: Sequence[str], images: Images) -> Params:
    """Initial weights by stage, reduction and sum, with an axis of layers or of states in front."""
    scales = {"scale": (channels,), "shift": (channels,)}
    halves = {half: {"kernel": (channels, channels // 2)} for half in ("even", "odd")}
    candidates = {name: operation_shapes(OPERATIONS[name], channels) for name in operations}
    stem, classifier = normalized_shapes((3, 3, images.channels, channels)), linear_shapes(channels, images.classes)
    repeated: dict[str, tuple[Shapes, int]] = {"sums": (scales, layers - 1)}
    for stage, numbers in enumerate(stages(layers)):
        repeated[f"stage_{stage}"] = candidates, len(numbers)
        if stage:
            repeated[f"reduction_{stage}"] = halves | scales, numbers[0]

    def draw(name: str, shapes: Shapes, count: int) -> Weights:
        return jax.vmap(lambda key: constant_or_drawn(key, shapes))(jax.random.split(named(key, name), count))

    return constant_or_drawn(named(key, "ends"), {"stem": stem, "classifier": classifier}) | {
        name: draw(name, shapes, count) for name, (shapes, count) in repeated.items()
    }


def _active(init: Callable[[Key], Params], operations: Sequence[str], gates: Gates) -> PyTree:
    """True for the weights that took part: of operations with a gate, and of reductions of states that are read."""
    layers, shapes = len(gates[PART]), jax.eval_shape(init, jax.random.key(0))
    everywhere = jax.tree.map(lambda leaf: jnp.asarray(True), shapes)

    def along(flags: Array, tree: PyTree) -> PyTree:
        """Flags for the first axis of every leaf."""
        return jax.tree.map(lambda leaf: flags.reshape(-1, *[1] * (leaf.ndim - 1)), tree)

    ran = gates[PART] > 0
    added = skip_factors(gates[SKIPS], layers, None) > 0
    for stage, numbers in enumerate(stages(layers)):
        here = ran[numbers[0] - 1 : numbers[-1]]
        everywhere[f"stage_{stage}"] = {
            name: along(here[:, option], shapes[f"stage_{stage}"][name]) for option, name in enumerate(operations)
        }
        if stage:
            # The last state is the next layer's input.
            read = jnp.any(added[numbers[0] - 1 :, : numbers[0]], axis=0).at[-1].set(True)
            everywhere[f"reduction_{stage}"] = along(read, shapes[f"reduction_{stage}"])
    return everywhere
