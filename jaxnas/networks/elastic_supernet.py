"""The supernet of an elastic space: the largest network runs, and gates mask kernels, channels, blocks and pixels.

Source: Once-for-All (Cai et al. 2020), whose slices of weights are masks here, so that one compiled program has every
architecture. Under one-hot gates it computes what the stand-alone network of that architecture computes in training,
and has its gradients; other gates mix masks, as FBNetV2 does (Wan et al. 2020). Statistics are those of the batch.

A smaller image stands in the top left corner of the largest. There symmetric padding and strides meet the same pixels
as at its own size, as long as all around it is zero wherever a convolution looks over the edge. Statistics and means
are those of its region.
"""

import functools
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxnas.core.errors import UserError, choose
from jaxnas.core.keys import named
from jaxnas.core.types import Architecture, Array, Dropout, Gates, Key, Network, Params, PyTree
from jaxnas.layers import backend
from jaxnas.layers.convolution import convolution, depthwise, pointwise
from jaxnas.layers.normalization import Statistics, leading, mean_of_pixels
from jaxnas.layers.resizing import on_canvas
from jaxnas.networks.chain_operations import ACTIVATIONS
from jaxnas.networks.chain_supernet import (
    Shapes,
    Weights,
    constant_or_drawn,
    linear,
    linear_shapes,
    normalized,
    normalized_shapes,
)
from jaxnas.networks.elastic_channels import reordered
from jaxnas.networks.elastic_extraction import extracted
from jaxnas.networks.elastic_sharing import SHARINGS, Group, groups, running_gates
from jaxnas.networks.family import Images
from jaxnas.networks.mobilenet_v3 import SMOOTH, adds_input
from jaxnas.networks.superkernel_supernet import first_channels, weighed
from jaxnas.spaces.elastic import (
    EXPANSION,
    RESOLUTION,
    Elastic,
    ElasticLayer,
    hidden_options,
    map_sizes,
    squeezed_channels,
)

Region = Array | None  # how much every position of a map counts, [h, w]; None where all count


class Masks(NamedTuple):
    """What the gates of a layer multiply: hidden channels [hidden], those of its squeeze-and-excitation [squeezed].

    runs: what its block is multiplied by, a scalar; None where it always runs.
    """

    hidden: Array
    squeezed: Array
    runs: Array | None


def group_masks(plan: Elastic, group: Group, gates: Gates) -> Masks:
    """The masks of a group, with a leading axis of its layers."""
    counts, of_expansion = hidden_options(plan, group.numbers[0]), gates[EXPANSION][group.rows]
    squeezed = tuple(squeezed_channels(plan, count) for count in counts)
    always = plan.layers[group.numbers[0]].place == 0  # a stage has at least one block
    runs = None if always else running_gates(plan, gates)[group.rows]
    hidden, squeezed = (
        jax.vmap(functools.partial(weighed, masks=first_channels(of)))(of_expansion) for of in (counts, squeezed)
    )
    return Masks(hidden, squeezed, runs)


def regions(plan: Elastic, gates: Gates) -> list[Region]:
    """Where the maps that each layer reads and, last, that the last one gives have their image, [h, w] each."""
    if len(plan.resolutions) == 1:
        return [None] * (len(plan.layers) + 1)
    known: dict[tuple[int, ...], Array] = {}

    def region(sizes: tuple[int, ...]) -> Array:
        if sizes not in known:
            pixels = first_channels(sizes)
            known[sizes] = weighed(gates[RESOLUTION][0], pixels[:, :, None] * pixels[:, None, :])
        return known[sizes]

    return [region(sizes) for sizes in zip(*(map_sizes(plan, size) for size in plan.resolutions), strict=True)]


def _cut(images: Array, region: Region) -> Array:
    """Images [b, h, w, c] with zeros outside of the region."""
    return images if region is None else images * region[..., None]


def run_block(
    layer: ElasticLayer,
    statistics: Statistics,
    images: Array,
    weights: Weights,
    masks: Masks,
    reads: Region,
    gives: Region,
) -> Array:
    """The block of a layer at its widest, masked: images [b, h, w, in] -> [b, h / stride, w / stride, channels].

    reads, gives: the regions of the image and of the result, outside of which there may be anything.
    """
    activate, own = ACTIVATIONS[layer.activation], weights["expansion"]
    hidden = activate(normalized(own, pointwise(images, own["kernel"]), statistics, reads))
    own = weights["depthwise"]
    hidden = depthwise(_cut(hidden, reads), own["kernel"], stride=layer.stride)
    # The depthwise convolution keeps channels apart, so that hidden ones need no mask before. What it makes of the
    # surroundings ends here, lest it grow from block to block.
    hidden = _cut(activate(normalized(own, hidden, statistics, gives)) * masks.hidden, gives)
    if layer.squeeze:
        squeezed = jax.nn.relu(linear(weights["squeeze"], mean_of_pixels(hidden, gives))) * masks.squeezed
        hidden = hidden * jax.nn.hard_sigmoid(linear(weights["excite"], squeezed))[:, None, None]
    own = weights["projection"]
    return normalized(own, pointwise(hidden, own["kernel"]), statistics, gives)


def fixed_shapes(plan: Elastic, images: Images) -> Shapes:
    """The shapes of what all architectures share, whatever their blocks share."""
    shapes = {
        "stem": normalized_shapes((3, 3, images.channels, plan.stem)),
        "final": normalized_shapes((plan.layers[-1].channels, plan.final)),
        "head": {"kernel": (plan.final, plan.head)},
        "classifier": linear_shapes(plan.head, images.classes),
    }
    if plan.first:
        convolutions = {"depthwise": (3, 3, plan.stem), "projection": (plan.stem, plan.first)}
        shapes["first"] = {name: normalized_shapes(kernel) for name, kernel in convolutions.items()}
    return shapes


def run_first(weights: Weights, statistics: Statistics, images: Array, region: Region) -> Array:
    """The block after the stem: images [b, h, w, stem], zeros outside of the region, -> [b, h, w, first]."""
    own = weights["depthwise"]
    hidden = jax.nn.relu(normalized(own, depthwise(images, own["kernel"]), statistics, region))
    own = weights["projection"]
    hidden = normalized(own, pointwise(hidden, own["kernel"]), statistics, region)
    return images + hidden if hidden.shape == images.shape else hidden


def elastic_supernet(
    plan: Elastic,
    images: Images,
    *,
    sharing: str = "slices",
    paths: int | None = None,
    bare_gates: bool = False,
    recompute: bool = False,
    calibrate: int = 0,
) -> Network:
    """The supernet as a Network over gates of `spaces.elastic.elastic_space`, one-hot or not.

    sharing: what architectures share, one of SHARINGS. Where they share channels, `reorder` sorts these; `extract`
    gives the stand-alone network's variables, with running statistics that are still to be measured (see
    `evaluate.calibration`). paths: a number leaves out the blocks whose gate is zero, which then get no gradient; with
    None all run. Kernels and channels are masks, which always run once. recompute: run a block again going back
    instead of keeping what it computed. calibrate: how many examples of a batch, its first, normalise it; 0 for all.
    Raises UserError for an unknown sharing, and for bare_gates, which would add gates to branches that masks do not
    have.
    """
    if bare_gates:
        raise UserError(
            "the space of elastic networks has masks instead of branches, so method.bare_gates has to be False, not "
            "True."
        )
    shared = choose("sharing", sharing, SHARINGS)(plan)
    statistics = leading(images.axis_name, calibrate)

    def init(key: Key) -> Params:
        fixed = constant_or_drawn(named(key, "fixed"), fixed_shapes(plan, images))
        return fixed | {"blocks": shared.init(named(key, "blocks"))}

    def run_layer(layer: ElasticLayer, hidden: Array, weights: Weights, masks: Masks, *around: Region) -> Array:
        run = functools.partial(run_block, layer, statistics)
        run = jax.checkpoint(run) if recompute else run
        runs = masks.runs
        if runs is None:
            branch = run(hidden, weights, masks, *around)
            return hidden + branch if adds_input(layer) else branch

        def added() -> Array:
            return hidden + runs * run(hidden, weights, masks, *around)

        if paths:
            return lax.cond(runs > 0, added, lambda: hidden)
        # On the CPU a condition that always holds makes copies of what a loop reads, which XLA would otherwise slice
        # again in every tap of its convolutions: a fifth of a step. (`choice.materialized` copies weights alone.)
        if backend.implementation() == "cpu":
            return lax.cond(runs > -jnp.inf, added, lambda: hidden)
        return added()

    def run_group(group: Group, hidden: Array, weights: Weights, masks: Masks, *around: Region) -> Array:
        layer = plan.layers[group.numbers[0]]
        if len(group.numbers) == 1:
            return run_layer(layer, hidden, *jax.tree.map(lambda leaf: leaf[0], (weights, masks)), *around)

        def body(hidden: Array, scanned: PyTree) -> tuple[Array, None]:
            own, of_layer = scanned
            return run_layer(layer, hidden, own, of_layer, *around), None

        return lax.scan(body, hidden, (weights, masks))[0]

    def apply(params: Params, gates: Gates, batch: Array, noise: Dropout | None = None) -> Array:
        del noise
        weights, around = shared.weights(params["blocks"], gates), regions(plan, gates)
        activate, own = ACTIVATIONS[SMOOTH], params["stem"]
        hidden = on_canvas(batch, plan.resolutions, gates[RESOLUTION][0])
        hidden = convolution(hidden, own["kernel"], stride=plan.stem_stride)
        hidden = activate(normalized(own, hidden, statistics, around[0]))
        if plan.first:
            hidden = run_first(params["first"], statistics, _cut(hidden, around[0]), around[0])
        for group in groups(plan):
            between = around[group.numbers[0]], around[group.numbers[0] + 1]
            hidden = run_group(group, hidden, weights[group.name], group_masks(plan, group, gates), *between)
        own = params["final"]
        hidden = activate(normalized(own, pointwise(hidden, own["kernel"]), statistics, around[-1]))
        hidden = activate(mean_of_pixels(hidden, around[-1]) @ params["head"]["kernel"])
        return linear(params["classifier"], hidden)

    def active(gates: Gates) -> PyTree:
        fixed = jax.tree.map(
            lambda shape: jnp.asarray(True), fixed_shapes(plan, images), is_leaf=lambda node: isinstance(node, tuple)
        )
        return fixed | {"blocks": shared.active(gates)}

    def reorder(params: Params, trained: Mapping[str, Array]) -> Params:
        return params | {"blocks": reordered(plan, params["blocks"], trained[EXPANSION])}

    def extract(params: Params, architecture: Architecture) -> Mapping[str, PyTree]:
        return extracted(plan, shared, params, architecture)

    return Network(init, apply, active, None, reorder if shared.nested else None, extract)
