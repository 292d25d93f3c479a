"""The supernet of a chain: every layer mixes its candidate blocks, or runs a few of them, as its gates say.

It normalises by the statistics of its batches, as all supernets here do, and learns a scale and a shift after each
normalisation, as the networks of these papers do.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict
from jax import lax

from jaxnas.core.keys import named
from jaxnas.core.types import Array, Dropout, Gates, Key, Network, Params, PyTree
from jaxnas.layers.convolution import channel_shuffle, convolution, depthwise, grouped_pointwise, pointwise
from jaxnas.layers.normalization import Statistics, batch_norm, leading
from jaxnas.layers.operations import CONSTANTS, init_weights
from jaxnas.networks.chain_operations import ACTIVATIONS, has_expansion, is_free
from jaxnas.networks.choice import materialized, run_paths
from jaxnas.networks.family import Images
from jaxnas.relax.quantized import quantized_activations, quantized_weights
from jaxnas.spaces.block import Block
from jaxnas.spaces.chain import PART, Chain, Layer, choice_layers, is_allowed

Shapes = Mapping[str, Any]  # nested names, shapes at the end
Weights = Mapping[str, Any]  # the same with arrays


def normalized_shapes(kernel: tuple[int, ...]) -> Shapes:
    """A convolution's kernel, and the scale and shift after its normalisation."""
    return {"kernel": kernel, "scale": kernel[-1:], "shift": kernel[-1:]}


def linear_shapes(inputs: int, outputs: int) -> Shapes:
    """A linear layer's kernel and bias."""
    return {"kernel": (inputs, outputs), "bias": (outputs,)}


def block_shapes(plan: Chain, layer: Layer, block: Block) -> Shapes:
    """The shapes of a block's weights in a layer, {} where it has none."""
    if is_free(layer, block) or not is_allowed(block, layer):
        return {}
    if block.kind == "identity":
        return {"identity": normalized_shapes((layer.channels_in, layer.channels))}
    if block.kind == "residual":
        return residual_shapes(layer, block)
    hidden = block.hidden(layer.channels_in) if has_expansion(plan, block) else layer.channels_in
    shapes: dict[str, Any] = {}
    if has_expansion(plan, block):
        shapes["expansion"] = normalized_shapes((layer.channels_in // block.groups, hidden))
    shapes["depthwise"] = normalized_shapes((block.kernel, block.kernel, hidden))
    if block.squeeze:
        squeezed = block.squeezed(layer.channels_in)
        shapes["squeeze"], shapes["excite"] = linear_shapes(hidden, squeezed), linear_shapes(squeezed, hidden)
    shapes["projection"] = normalized_shapes((hidden // block.groups, layer.channels))
    return shapes


def residual_shapes(layer: Layer, block: Block) -> Shapes:
    """The shapes of a residual block's weights in a layer."""
    size, channels_in, channels = block.kernel, layer.channels_in, layer.channels
    shapes = {
        "convolution_1": normalized_shapes((size, size, channels_in, channels)),
        "convolution_2": normalized_shapes((size, size, channels, channels)),
    }
    if not layer.keeps_shape:
        shapes["projection"] = normalized_shapes((1, 1, channels_in, channels))
    clips = {name: {"clip": (1,)} for name in ("input", "between")} if block.quantized else {}
    return shapes | clips


def normalized(weights: Weights, images: Array, statistics: Statistics, region: Array | None = None) -> Array:
    """Batch normalisation of images [b, h, w, c] by a region, scaled and shifted by the weights beside a kernel."""
    return batch_norm(images, statistics, region) * weights["scale"] + weights["shift"]


def run_block(
    plan: Chain,
    layer: Layer,
    block: Block,
    statistics: Statistics,
    images: Array,
    weights: Weights,
    noise: None = None,
) -> Array:
    """One block: images [b, h, w, layer.channels_in] -> [b, h / stride, w / stride, layer.channels].

    Zeros where the layer cannot have the block, whose gate is zero there.
    """
    del noise  # chains have nothing to drop
    activate = ACTIVATIONS[plan.activation]
    if not is_allowed(block, layer):
        shape = (images.shape[0], *(-(-size // layer.stride) for size in images.shape[1:3]), layer.channels)
        return jnp.zeros(shape, images.dtype)
    if is_free(layer, block):
        return images
    if block.kind == "identity":
        own = weights["identity"]
        strided = images[:, :: layer.stride, :: layer.stride]
        hidden = normalized(own, pointwise(strided, own["kernel"]), statistics)
        return activate(hidden) if plan.identity_activation else hidden
    if block.kind == "residual":
        return run_residual(plan, layer, block, statistics, images, weights)
    hidden = images
    if has_expansion(plan, block):
        own = weights["expansion"]
        hidden = activate(normalized(own, grouped_pointwise(hidden, own["kernel"], block.groups), statistics))
        hidden = channel_shuffle(hidden, block.groups)
    own = weights["depthwise"]
    hidden = activate(normalized(own, depthwise(hidden, own["kernel"], stride=layer.stride), statistics))
    if block.squeeze:
        squeezed = activate(linear(weights["squeeze"], jnp.mean(hidden, axis=(1, 2))))
        hidden = hidden * jax.nn.sigmoid(linear(weights["excite"], squeezed))[:, None, None]
    own = weights["projection"]
    hidden = normalized(own, grouped_pointwise(hidden, own["kernel"], block.groups), statistics)
    return images + hidden if layer.keeps_shape else hidden


def run_residual(
    plan: Chain, layer: Layer, block: Block, statistics: Statistics, images: Array, weights: Weights
) -> Array:
    """A residual block: images [b, h, w, layer.channels_in] -> [b, h / stride, w / stride, layer.channels]."""
    activate = ACTIVATIONS[plan.activation]
    weight_bits, activation_bits = block.bits

    def clipped(name: str, values: Array) -> Array:
        return quantized_activations(values, weights[name]["clip"], activation_bits)

    def convolved(name: str, inputs: Array, stride: int) -> Array:
        kernel = quantized_weights(weights[name]["kernel"], weight_bits)
        return normalized(weights[name], convolution(inputs, kernel, stride=stride), statistics)

    read = clipped("input", images) if block.quantized else images
    hidden = convolved("convolution_1", read, layer.stride)
    hidden = clipped("between", hidden) if block.quantized else activate(hidden)
    hidden = convolved("convolution_2", hidden, 1)
    return activate((images if layer.keeps_shape else convolved("projection", read, layer.stride)) + hidden)


def linear(weights: Weights, inputs: Array) -> Array:
    """A linear layer: [b, in] -> [b, out]."""
    return inputs @ weights["kernel"] + weights["bias"]


def _mixture(branches: Sequence[Any], images: Array, weights: Weights, gates: Array) -> Array:
    """Σ of gate · block; gates [candidates]."""
    outputs = (gate * branch(images, weights) for gate, branch in zip(gates, branches, strict=True))
    return functools.reduce(jnp.add, outputs)


def _own(function: Any, name: str, images: Array, weights: Weights, noise: Dropout | None = None) -> Array:
    """A branch reads its own block's weights among those of all candidates."""
    del noise
    return function(images, weights.get(name, {}))


def constant_or_drawn(key: Key, shapes: Shapes, leading: tuple[int, ...] = ()) -> dict[str, Any]:
    """Initial weights of nested shapes behind `leading` axes: kernels from one draw, all else as CONSTANTS has it."""
    flat: dict[Any, Any] = dict(flatten_dict(shapes))
    kernels = {"/".join(path): shape for path, shape in flat.items() if path[-1] == "kernel"}
    drawn = init_weights(named(key, "kernels"), kernels, leading)
    return unflatten_dict(
        {
            path: drawn["/".join(path)] if path[-1] == "kernel" else jnp.full((*leading, *shape), CONSTANTS[path[-1]])
            for path, shape in flat.items()
        }
    )


def runs_of_layers(plan: Chain) -> list[list[int]]:
    """Consecutive layers of one shape, which share a compiled loop body; every other layer is alone."""
    runs: list[list[int]] = []
    for number, layer in enumerate(plan.layers):
        before = plan.layers[number - 1] if number else None
        alike = before is not None and layer.fixed is None and before.fixed is None
        if (
            alike
            and layer.keeps_shape
            and before is not None
            and before.keeps_shape
            and before.channels == layer.channels
        ):
            runs[-1].append(number)
        else:
            runs.append([number])
    return runs


def chain_supernet(
    plan: Chain,
    images: Images,
    *,
    shared: bool = False,
    paths: int | None = None,
    bare_gates: bool = False,
    recompute: bool = False,
    calibrate: int = 0,
) -> Network:
    """The supernet of a chain as a Network over gates {"blocks": [choices, candidates]}.

    shared: the layers of a stage share their choice. paths: how many candidates run in a layer, those of the largest
    gates; None for all. bare_gates: with paths, see `networks.choice.run_paths`. recompute: without paths, run the
    candidates again going back instead of keeping what they computed; with paths it is always so. calibrate: how many
    examples of a batch, its first, normalise it; 0 for all of them.
    """
    statistics = leading(images.axis_name, calibrate)
    choices = {number: row for row, numbers in enumerate(choice_layers(plan, shared)) for number in numbers}
    runs = runs_of_layers(plan)
    few = paths and min(paths, len(plan.candidates))

    def shapes() -> Shapes:
        candidates = [
            {
                str(block): block_shapes(plan, layer, block)
                for block in ((layer.fixed,) if layer.fixed else plan.candidates)
            }
            for layer in plan.layers
        ]
        return {
            "stem": normalized_shapes((3, 3, images.channels, plan.stem)),
            "layers": {str(n): {name: own for name, own in of.items() if own} for n, of in enumerate(candidates)},
            "head": normalized_shapes((plan.layers[-1].channels, plan.head)),
            "classifier": linear_shapes(plan.head, images.classes),
        }

    def init(key: Key) -> Params:
        params = constant_or_drawn(key, shapes())
        layers = params.get("layers", {})  # a layer whose candidates have no weights has no entry
        return params | {"layers": [layers.get(str(number), {}) for number in range(len(plan.layers))]}

    def run_layer(layer: Layer, hidden: Array, weights: Weights, gates: Array) -> Array:
        branches = tuple(
            functools.partial(_own, functools.partial(run_block, plan, layer, block, statistics), str(block))
            for block in plan.candidates
        )
        if few:
            return run_paths(branches, few, bare_gates, hidden, weights, gates)
        mixture = functools.partial(_mixture, branches)
        return (jax.checkpoint(mixture) if recompute else mixture)(hidden, weights, gates)

    def apply(params: Params, gates: Gates, batch: Array, noise: Dropout | None = None) -> Array:
        del noise
        activate = ACTIVATIONS[plan.activation]
        own = params["stem"]
        hidden = activate(normalized(own, convolution(batch, own["kernel"], stride=plan.stem_stride), statistics))
        for run in runs:
            layer = plan.layers[run[0]]
            if layer.fixed is not None:
                weights = params["layers"][run[0]].get(str(layer.fixed), {})
                hidden = run_block(plan, layer, layer.fixed, statistics, hidden, weights)
                continue
            rows = gates[PART][jnp.asarray([choices[number] for number in run])]
            members = [params["layers"][number] for number in run]
            if len(run) == 1:
                hidden = run_layer(layer, hidden, members[0], rows[0])
                continue

            def body(hidden: Array, scanned: PyTree, layer: Layer = layer) -> tuple[Array, None]:
                weights, row = scanned
                return run_layer(layer, hidden, materialized(weights), row), None

            stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *members)
            hidden, _ = lax.scan(body, hidden, (stacked, rows))
        own = params["head"]
        hidden = activate(normalized(own, pointwise(hidden, own["kernel"]), statistics))
        return linear(params["classifier"], jnp.mean(hidden, axis=(1, 2)))

    def active(gates: Gates) -> PyTree:
        flat = {path: jnp.asarray(True) for path in flatten_dict(shapes())}
        for path in flat:
            if path[0] == "layers" and plan.layers[int(path[1])].fixed is None:
                flat[path] = gates[PART][choices[int(path[1])], plan.options.index(path[2])] > 0
        tree = unflatten_dict(flat)
        layers = tree.get("layers", {})
        return tree | {"layers": [layers.get(str(number), {}) for number in range(len(plan.layers))]}

    return Network(init, apply, active)
