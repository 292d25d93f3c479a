"""The supernet of superkernels: one widest network runs, and its gates mask kernels and channels.

Sources: Single-Path NAS (Stamoulis et al. 2019), whose larger kernels and expansions contain the smaller ones, and
FBNetV2 (Wan et al. 2020), whose masks are the gate-weighted sum of one mask for each option. Under one-hot gates the
network computes what the narrow network of the sliced weights computes, and has its gradients: every mask follows its
normalisation, which is by channel, so that a masked channel reaches nobody. Statistics are those of the batch.

The size of the images is a choice between networks of the same weights: the logits of every size, weighed by its gate.
Under a one-hot gate that is the network at that size; the mixture costs what all sizes do together. FBNetV2 places the
smaller feature maps back on the grid of the largest instead.
"""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxnas.core.errors import UserError
from jaxnas.core.types import Array, Dropout, Gates, Network, Params, PyTree
from jaxnas.layers.convolution import convolution, depthwise, pointwise
from jaxnas.layers.normalization import Statistics, batch_norm, leading
from jaxnas.networks.chain_operations import ACTIVATIONS
from jaxnas.networks.chain_supernet import chain_supernet, run_block
from jaxnas.networks.choice import materialized, run_paths
from jaxnas.networks.family import Images
from jaxnas.spaces.superkernel import (
    EXPANSION,
    KERNEL,
    RESOLUTION,
    WIDTH,
    Superkernel,
    allowed_expansions,
    channel_options,
    hidden_options,
    starts_stage,
)

Weights = Mapping[str, Any]


class Masks(NamedTuple):
    """What the gates of a layer multiply: kernel [k, k, 1], hidden channels [hidden], output of the branch [channels].

    residual: what the input is multiplied by before it is added, a scalar.
    """

    kernel: Array
    hidden: Array
    branch: Array
    residual: Array


def subsampled(images: Array, size: int) -> Array:
    """The pixels of images [b, h, w, c] that are nearest to those of a grid of size × size; [b, size, size, c]."""
    for axis in (1, 2):
        pixels = images.shape[axis]
        if pixels != size:
            images = jnp.take(images, (2 * np.arange(size) + 1) * pixels // (2 * size), axis=axis)
    return images


def first_channels(counts: tuple[int, ...]) -> np.ndarray:
    """A mask for each count, float32 [counts, largest count]: 1 on the first so many channels."""
    return (np.arange(max(counts)) < np.asarray(counts)[:, None]).astype(np.float32)


def centred(kernels: tuple[int, ...]) -> np.ndarray:
    """A mask for each size, float32 [kernels, k, k, 1] with the largest size k: 1 on the centre of that size."""
    offset = np.abs(np.arange(kernels[-1]) - kernels[-1] // 2)
    rows = (offset <= np.asarray(kernels)[:, None] // 2).astype(np.float32)
    return (rows[:, :, None] * rows[:, None, :])[..., None]


def centre(kernel: Array, size: int) -> Array:
    """The size × size taps in the middle of a kernel [k, k, ...]."""
    edge = (kernel.shape[0] - size) // 2
    return kernel[edge : edge + size, edge : edge + size]


def weighed(gates: Array, masks: np.ndarray) -> Array:
    """Σ of gate · mask; gates [options], masks [options, ...]. A sum, because accelerators round in products."""
    return jnp.sum(gates.reshape(-1, *[1] * (masks.ndim - 1)) * masks, axis=0)


def _width_gates(plan: Superkernel, gates: Gates, stage: int) -> Array:
    """The gates of `channel_options(plan, stage)`."""
    chosen = stage > 0 and WIDTH in gates
    return gates[WIDTH][stage - 1] if chosen else jnp.ones(1, gates[KERNEL].dtype)


def _residual(plan: Superkernel, number: int, gates: Gates) -> Array:
    """How much of its input a layer adds: 1 within a stage, else the gates of all widths that give equal channels."""
    layers = plan.chain.layers
    none = jnp.zeros((), gates[KERNEL].dtype)
    if not starts_stage(plan, number):
        return none + 1
    if layers[number].stride > 1:
        return none
    before = layers[number - 1].stage if number else 0
    stage = layers[number].stage
    equal = np.equal.outer(channel_options(plan, before), channel_options(plan, stage))
    pairs = _width_gates(plan, gates, before)[:, None] * _width_gates(plan, gates, stage)
    return jnp.sum(pairs * equal.astype(np.float32))


def layer_masks(plan: Superkernel, number: int, gates: Gates) -> Masks:
    """The masks of one searchable layer. Gates of options that the layer does not have are not read."""
    row = plan.searchable.index(number)
    of_expansion = gates[EXPANSION][row]
    stage = plan.chain.layers[number].stage
    runs = np.asarray(plan.expansions) > 0
    branch = weighed(_width_gates(plan, gates, stage), first_channels(channel_options(plan, stage)))
    if allowed_expansions(plan)[row, 0] and not runs[0]:
        branch = branch * jnp.sum(of_expansion[1:])  # no hidden channels, and yet the shift: the branch has to end
    return Masks(
        kernel=weighed(gates[KERNEL][row], centred(plan.kernels)),
        hidden=weighed(of_expansion, first_channels(hidden_options(plan, number))),
        branch=branch,
        residual=_residual(plan, number, gates),
    )


def _normalized(weights: Weights, images: Array, statistics: Statistics) -> Array:
    return batch_norm(images, statistics) * weights["scale"] + weights["shift"]


def _fitted(images: Array, channels: int) -> Array:
    """The first channels of images [b, h, w, c], zeros where there are fewer; [b, h, w, channels]."""
    missing = max(0, channels - images.shape[-1])
    return jnp.pad(images[..., :channels], ((0, 0), (0, 0), (0, 0), (0, missing)))


def _run_masked(
    plan: Superkernel, number: int, statistics: Statistics, images: Array, weights: Weights, masks: Masks
) -> Array:
    """The MBConv of one layer at its widest, masked; images [b, h, w, in] -> [b, h / stride, w / stride, channels]."""
    layer, activate = plan.chain.layers[number], ACTIVATIONS[plan.chain.activation]
    own = weights["expansion"]
    hidden = activate(_normalized(own, pointwise(images, own["kernel"]), statistics))
    own = weights["depthwise"]
    hidden = depthwise(hidden, own["kernel"] * masks.kernel, stride=layer.stride)
    # The depthwise convolution keeps channels apart, so that this is the only place where hidden ones need a mask.
    hidden = activate(_normalized(own, hidden, statistics)) * masks.hidden
    own = weights["projection"]
    branch = _normalized(own, pointwise(hidden, own["kernel"]), statistics) * masks.branch
    return branch if layer.stride > 1 else branch + masks.residual * _fitted(images, layer.channels)


def _runs(plan: Superkernel) -> list[list[int]]:
    """Consecutive layers of one shape, which share a compiled loop body: those of a stage after its first."""
    runs: list[list[int]] = []
    for number in plan.searchable:
        if starts_stage(plan, number) or starts_stage(plan, number - 1):
            runs.append([number])
        else:
            runs[-1].append(number)
    return runs


def _stacked(trees: list[PyTree]) -> PyTree:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def _added(masks: np.ndarray) -> np.ndarray:
    """What each mask adds to the one before it, none for the first; masks [options, ...] that grow."""
    return np.concatenate([np.zeros_like(masks[:1]), np.diff(masks, axis=0)])


def importance(plan: Superkernel, params: Params) -> Mapping[str, Array]:
    """{part: [choices, options]}: the squared L2 norm of the weights that an option adds to the one before it.

    Column 0 is 0. For kernels it is the norm of the outer ring of the depthwise kernel, for expansions that of the
    depthwise kernels of the channels that are added, neither normalised by the number of weights (Stamoulis et al.
    2019, eq. 3 to 6, whose norms for expansions are those of the kernels that were chosen; here, of the largest). The
    paper chooses nothing else: for widths it is the norm of the projections to the added channels in all layers of the
    stage, and for resolutions, which add no weights, 0.
    """
    squares = {
        number: jax.tree.map(jnp.square, params["layers"][number][str(plan.chain.candidates[0])])
        for number in plan.searchable
    }
    kernels, expansions = [], []
    widths = [jnp.zeros(len(plan.width_fractions))] * plan.stages
    for number, own in squares.items():
        stage, depthwise_kernel = plan.chain.layers[number].stage, own["depthwise"]["kernel"]
        taps, channels = centred(plan.kernels), first_channels(hidden_options(plan, number))
        kernels.append(jnp.sum(depthwise_kernel * _added(taps), axis=(1, 2, 3)))
        expansions.append(jnp.sum(jnp.sum(depthwise_kernel, axis=(0, 1)) * _added(channels), axis=-1))
        added = _added(first_channels(channel_options(plan, stage)))
        widths[stage - 1] += jnp.sum(jnp.sum(own["projection"]["kernel"], axis=0) * added, axis=-1)
    found = {KERNEL: jnp.stack(kernels), EXPANSION: jnp.stack(expansions), WIDTH: jnp.stack(widths)}
    found[RESOLUTION] = jnp.zeros((1, len(plan.resolutions)))
    return {part: found[part] for part in plan.options}


def superkernel_supernet(
    plan: Superkernel,
    images: Images,
    *,
    paths: int | None = None,
    bare_gates: bool = False,
    recompute: bool = False,
    calibrate: int = 0,
) -> Network:
    """The supernet as a Network over gates of `spaces.superkernel.superkernel_space`, one-hot or not.

    Its weights are those of the widest network. All of them are `active` under all gates: those that a mask hides have
    no gradient from the loss, but may have one from `importance` (see there).
    paths: how many image sizes run, those of the largest gates; None for all. Kernels and channels are masks, which
    always run once. recompute: run a layer again going back instead of keeping what it computed. calibrate: how many
    examples of a batch, its first, normalise it; 0 for all of them.
    Raises UserError for bare_gates, which would add gates to branches that a superkernel does not have.
    """
    if bare_gates:
        raise UserError(
            "the space of superkernels has masks instead of branches, so method.bare_gates has to be False, not True."
        )
    statistics, chain = leading(images.axis_name, calibrate), plan.chain
    widest = chain.candidates[0]
    fixed = tuple(layer._replace(fixed=layer.fixed or widest) for layer in chain.layers)
    base = chain_supernet(chain._replace(layers=fixed), images)

    def run_layer(number: int, hidden: Array, weights: Weights, masks: Masks) -> Array:
        run = functools.partial(_run_masked, plan, number, statistics)
        return (jax.checkpoint(run) if recompute else run)(hidden, weights, masks)

    def run_stage(numbers: list[int], hidden: Array, params: Params, gates: Gates) -> Array:
        """Consecutive layers of one shape: a loop, or the layer itself where it is the only one."""
        weights = [params["layers"][number][str(widest)] for number in numbers]
        masks = [layer_masks(plan, number, gates) for number in numbers]
        if len(numbers) == 1:
            return run_layer(numbers[0], hidden, weights[0], masks[0])

        def body(hidden: Array, scanned: PyTree) -> tuple[Array, None]:
            own, of_layer = scanned
            return run_layer(numbers[0], hidden, materialized(own), of_layer), None

        return lax.scan(body, hidden, (_stacked(weights), _stacked(masks)))[0]

    def run_at(size: int, batch: Array, weights: tuple[Params, Gates], noise: None = None) -> Array:
        """The whole network on images of one size: class logits [batch, classes]."""
        del noise
        (params, gates), activate = weights, ACTIVATIONS[chain.activation]
        own = params["stem"]
        hidden = convolution(subsampled(batch, size), own["kernel"], stride=chain.stem_stride)
        hidden = activate(_normalized(own, hidden, statistics))
        for layer, own in zip(chain.layers, params["layers"], strict=True):
            if layer.fixed is not None:
                hidden = run_block(chain, layer, layer.fixed, statistics, hidden, own[str(layer.fixed)])
        for numbers in _runs(plan):
            hidden = run_stage(numbers, hidden, params, gates)
        own = params["head"]
        hidden = activate(_normalized(own, pointwise(hidden, own["kernel"]), statistics))
        return jnp.mean(hidden, axis=(1, 2)) @ params["classifier"]["kernel"] + params["classifier"]["bias"]

    sizes = tuple(functools.partial(run_at, size) for size in plan.resolutions)

    def apply(params: Params, gates: Gates, batch: Array, noise: Dropout | None = None) -> Array:
        del noise
        if len(sizes) == 1:
            return sizes[0](batch, (params, gates))
        of_size = gates[RESOLUTION][0]
        if paths:
            return run_paths(sizes, min(paths, len(sizes)), False, batch, (params, gates), of_size)
        outputs = [run_at(size, batch, (params, gates)) for size in plan.resolutions]
        return functools.reduce(jnp.add, (gate * output for gate, output in zip(of_size, outputs, strict=True)))

    return Network(base.init, apply, base.active, functools.partial(importance, plan))
