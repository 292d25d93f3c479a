"""Elastic networks: all smaller networks are parts of the largest, in kernel, width, depth and size of the images.

The space of Once-for-All (Cai et al. 2020) around MobileNetV3 (Howard et al. 2019): stages of inverted bottlenecks,
every block with a kernel and an expansion, every stage with a depth, and one resolution for all.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp

from jaxnas.core.errors import UserError
from jaxnas.core.types import Architecture, Array, Space
from jaxnas.spaces.product import option_names, product_space
from jaxnas.spaces.rising import check_channels, check_list, check_rising, check_whole, is_number, is_whole

KERNEL, EXPANSION, DEPTH, RESOLUTION = "kernel", "expansion", "depth", "resolution"
REDUCTION = 4  # hidden channels for each channel between the two layers of a squeeze-and-excitation


class ElasticLayer(NamedTuple):
    """A place for one inverted bottleneck.

    channels_in, channels, stride: of its input and output and between them. squeeze: whether it has a
    squeeze-and-excitation. activation: "relu" or "hard_swish". stage: counted from 1. place: in it, counted from 0.
    """

    channels_in: int
    channels: int
    stride: int
    squeeze: bool
    activation: str
    stage: int
    place: int

    @property
    def name(self) -> str:
        """Such as "stage 2 block 1"."""
        return f"stage {self.stage} block {self.place + 1}"


class Elastic(NamedTuple):
    """What all architectures of a space have in common; the options of every kind rise.

    stem: channels of a 3×3 convolution of stride stem_stride. first: of a fixed block without expansion after it, 0 for
        none. layers: of the deepest network, stage after stage.
    final: channels of a 1×1 convolution after the last stage. head: of the linear layer between the mean over pixels
        and the classifier.
    kernels: sizes of the depthwise convolutions. expansions: hidden channels for each channel that a block reads.
    depths: blocks of a stage. resolutions: height and width, in pixels, to which images are resized.
    divisor: of the numbers of hidden and squeezed channels.
    """

    stem: int
    stem_stride: int
    first: int
    layers: tuple[ElasticLayer, ...]
    final: int
    head: int
    kernels: tuple[int, ...]
    expansions: tuple[float, ...]
    depths: tuple[int, ...]
    resolutions: tuple[int, ...]
    divisor: int

    @property
    def stages(self) -> int:
        """The number of stages."""
        return self.layers[-1].stage

    @property
    def options(self) -> dict[str, tuple[str, ...]]:
        """Names of the options of every part of the space."""
        numbers = {
            KERNEL: self.kernels,
            EXPANSION: self.expansions,
            DEPTH: self.depths,
            RESOLUTION: self.resolutions,
        }
        return {part: tuple(f"{number:g}" for number in of) for part, of in numbers.items()}


def elastic_plan(
    *,
    stem: int,
    stem_stride: int,
    first: int,
    widths: Sequence[int],
    strides: Sequence[int],
    squeeze: Sequence[bool],
    hard_swish: Sequence[bool],
    final: int,
    head: int,
    kernels: Sequence[int],
    expansions: Sequence[float],
    depths: Sequence[int],
    resolutions: Sequence[int],
    divisor: int,
) -> Elastic:
    """The plan of stages that have these widths (channels), strides, squeeze-and-excitations and activations.

    The other settings are the fields of `Elastic`. Raises UserError for settings that are not whole numbers or too
    small, for other strides than 1 and 2, for lengths that differ, for options that are no such numbers or do not rise,
    for two expansions that give the same channels, and for resolutions smaller than the product of the strides.
    """
    for name, value, least in (("stem", stem, 1), ("first", first, 0), ("final", final, 1), ("head", head, 1)):
        check_whole(name, value, least)
    check_whole("divisor", divisor, 1)
    _check_stages(widths, strides, squeeze, hard_swish, stem_stride)
    check_rising("kernels", kernels, "odd whole numbers", lambda one: is_whole(one) and one % 2 == 1, (3, 5))
    check_rising("expansions", expansions, "numbers above 0", lambda one: is_number(one) and one > 0, (3, 6))
    check_rising("depths", depths, "whole numbers above 0", is_whole, (2, 3))
    check_rising("resolutions", resolutions, "whole numbers above 0", is_whole, (24, 32))
    layers, channels = [], first or stem
    for stage, (width, stride, squeezed, swish) in enumerate(
        zip(widths, strides, squeeze, hard_swish, strict=True), start=1
    ):
        for place in range(depths[-1]):
            activation = "hard_swish" if swish else "relu"
            layers.append(
                ElasticLayer(channels, width, 1 if place else stride, bool(squeezed), activation, stage, place)
            )
            channels = width
    plan = Elastic(
        stem=stem,
        stem_stride=stem_stride,
        first=first,
        layers=tuple(layers),
        final=final,
        head=head,
        kernels=tuple(kernels),
        expansions=tuple(expansions),
        depths=tuple(depths),
        resolutions=tuple(resolutions),
        divisor=divisor,
    )
    for number, layer in enumerate(layers):
        remedy = "expansions that differ more, a wider stage or a smaller divisor"
        check_channels(f"the expansions of {layer.name}", hidden_options(plan, number), remedy)
    _check_resolutions(plan)
    return plan


def _check_stages(
    widths: Sequence[int],
    strides: Sequence[int],
    squeeze: Sequence[bool],
    hard_swish: Sequence[bool],
    stem_stride: int,
) -> None:
    lengths = {"widths": widths, "strides": strides, "squeeze": squeeze, "hard_swish": hard_swish}
    for name, of in lengths.items():
        check_list(name, of, (24, 40) if name == "widths" else (1, 2) if name == "strides" else (False, True))
    if not widths or len({len(of) for of in lengths.values()}) > 1:
        told = ", ".join(f"{name} {len(of)}" for name, of in lengths.items())
        raise UserError(f"widths, strides, squeeze and hard_swish have one entry for each stage, but here {told}.")
    for number, width in enumerate(widths):
        check_whole(f"widths[{number}]", width, 1)
    for name in ("squeeze", "hard_swish"):
        for number, flag in enumerate(lengths[name]):
            if not isinstance(flag, bool):
                raise UserError(f"{name}[{number}] is {flag!r}, but has to be True or False.")
    for name, stride in (("stem_stride", stem_stride), *((f"strides[{n}]", one) for n, one in enumerate(strides))):
        if not is_whole(stride) or stride > 2:
            raise UserError(f"{name} is {stride!r}, but has to be 1 or 2.")


def _check_resolutions(plan: Elastic) -> None:
    least = math.prod((plan.stem_stride, *(layer.stride for layer in plan.layers)))
    if plan.resolutions[0] < least:
        raise UserError(
            f"resolutions begin with {plan.resolutions[0]} pixels, but the strides shrink images by a factor of "
            f"{least}; take at least {least}, or fewer strides of 2."
        )


def divisible(channels: float, divisor: int) -> int:
    """The multiple of the divisor that is nearest to a number of channels: at least the divisor, and 90 % of them.

    Source: the code of MobileNetV2 (Sandler et al. 2018), which all networks of that family round by.
    """
    nearest = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return nearest if nearest >= 0.9 * channels else nearest + divisor


def hidden_options(plan: Elastic, number: int) -> tuple[int, ...]:
    """Hidden channels of a layer for each expansion."""
    channels = plan.layers[number].channels_in
    return tuple(divisible(round(expansion * channels), plan.divisor) for expansion in plan.expansions)


def squeezed_channels(plan: Elastic, hidden: int) -> int:
    """Channels between the two layers of a squeeze-and-excitation of so many hidden channels."""
    return divisible(hidden // REDUCTION, plan.divisor)


def map_sizes(plan: Elastic, resolution: int) -> tuple[int, ...]:
    """Height and width of what each layer reads and, last, of what the last one gives; strides round sizes up."""
    sizes = [-(-resolution // plan.stem_stride)]
    for layer in plan.layers:
        sizes.append(-(-sizes[-1] // layer.stride))
    return tuple(sizes)


def choice_names(plan: Elastic) -> dict[str, tuple[str, ...]]:
    """What each choice of each part is about, such as "stage 2 block 1"."""
    layers = tuple(layer.name for layer in plan.layers)
    stages = tuple(f"stage {stage}" for stage in range(1, plan.stages + 1))
    return {KERNEL: layers, EXPANSION: layers, DEPTH: stages, RESOLUTION: ("images",)}


def elastic_space(plan: Elastic, name: str = "elastic") -> Space:
    """The space of all combinations: a kernel and an expansion for each layer, a depth for each stage, one resolution.

    Its parts are {"kernel": [layers, kernels], "expansion": [layers, expansions], "depth": [stages, depths],
    "resolution": [1, resolutions]}. Architectures that differ in a block beyond the depth of its stage are different,
    although they compute the same; `Space.relevant` tells which choices matter.
    """
    choices = {part: len(rows) for part, rows in choice_names(plan).items()}

    def relevant(architecture: Architecture) -> dict[str, Array]:
        runs = running(plan, architecture)
        always = {part: jnp.ones(choices[part], bool) for part in (DEPTH, RESOLUTION)}
        return {KERNEL: runs, EXPANSION: runs, **always}

    return product_space(name, plan.options, choices)._replace(relevant=relevant)


def running(plan: Elastic, architecture: Architecture) -> Array:
    """Which layers the depths of an architecture leave, bool [layers]."""
    depths = jnp.asarray(plan.depths)[architecture[DEPTH]]
    stages = jnp.asarray([layer.stage - 1 for layer in plan.layers])
    return jnp.asarray([layer.place for layer in plan.layers]) < depths[stages]


class ConcreteBlock(NamedTuple):
    """A block of one architecture: the number of its layer in plan.layers, its kernel size and its hidden channels."""

    number: int
    kernel: int
    hidden: int


class Concrete(NamedTuple):
    """What an architecture says: the blocks that it has, and the resolution of its images in pixels."""

    blocks: tuple[ConcreteBlock, ...]
    resolution: int


def concrete(plan: Elastic, architecture: Architecture) -> Concrete:
    """The blocks and the resolution of a concrete architecture.

    Raises UserError where the architecture's numbers do not fit the space (see `spaces.product.option_names`).
    """
    space = elastic_space(plan)
    chosen = {
        part: tuple(of.index(name) for name in option_names(part, of, space.allowed[part], architecture))
        for part, of in plan.options.items()
    }
    depths = [plan.depths[option] for option in chosen[DEPTH]]
    blocks = tuple(
        ConcreteBlock(number, plan.kernels[kernel], hidden_options(plan, number)[expansion])
        for number, (layer, kernel, expansion) in enumerate(
            zip(plan.layers, chosen[KERNEL], chosen[EXPANSION], strict=True)
        )
        if layer.place < depths[layer.stage - 1]
    )
    return Concrete(blocks, plan.resolutions[chosen[RESOLUTION][0]])
