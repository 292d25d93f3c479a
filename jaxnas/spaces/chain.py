"""Chains of blocks: a stem, layers that each choose one candidate block, and a head.

The spaces of NAS-Bench-Macro (Su et al. 2021), ProxylessNAS (Cai, Zhu & Han 2019), FBNet (Wu et al. 2019), MnasNet
(Tan et al. 2019) and of mixed precision (Guo et al. 2020) are of this kind. A `Chain` holds what is the same for all
architectures; an architecture numbers the candidate of every searchable layer or, where the layers of a stage share
their choice, of every stage.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from jaxnas.core.errors import UserError, unknown
from jaxnas.core.types import Architecture, Space
from jaxnas.spaces.block import FORMS, Block, parse_block
from jaxnas.spaces.product import option_names, options_to_numbers, product_space
from jaxnas.spaces.rising import check_whole

PART = "blocks"
ACTIVATIONS = ("relu", "relu6", "hard_swish")


class Layer(NamedTuple):
    """A place for one block.

    channels_in, channels, stride: of its input and output and between them.
    name: for people, such as "stage 2 block 1". stage: counted from 1, 0 for what comes before the first.
    fixed: the block that every architecture has here, None where it is chosen.
    """

    channels_in: int
    channels: int
    stride: int
    name: str
    stage: int
    fixed: Block | None = None

    @property
    def keeps_shape(self) -> bool:
        """Whether output and input have one shape, so that a block can be added to its input."""
        return self.stride == 1 and self.channels_in == self.channels


class Chain(NamedTuple):
    """What all architectures of a space have in common.

    stem: channels of a 3×3 convolution of stride stem_stride. layers: from the stem to the head.
    head: channels of a 1×1 convolution before the classifier. candidates: blocks for the layers that are not fixed.
    activation: one of ACTIVATIONS. identity_activation: whether an identity that has to be a 1×1 convolution ends in an
        activation. expand_always: whether an mbconv of expansion 1 keeps its first pointwise convolution.
    """

    stem: int
    stem_stride: int
    layers: tuple[Layer, ...]
    head: int
    candidates: tuple[Block, ...]
    activation: str = "relu"
    identity_activation: bool = False
    expand_always: bool = False

    @property
    def options(self) -> tuple[str, ...]:
        """The candidates' names."""
        return tuple(str(block) for block in self.candidates)


def chain_plan(
    *,
    stem: int,
    stem_stride: int,
    first: int,
    widths: Sequence[int],
    depths: Sequence[int],
    strides: Sequence[int],
    head: int,
    candidates: Sequence[str],
    activation: str,
    identity_activation: bool,
    expand_always: bool,
) -> Chain:
    """A chain of stages, each with its own channels (widths), layers (depths) and stride of the first layer.

    first: channels of a fixed mbconv_k3_e1 between stem and stages, as MobileNetV2 has it, 0 for none. The other
    settings are the fields of `Chain`. Raises UserError for settings that are not whole numbers or too small, for other
    strides than 1 and 2, for lengths that differ, for no, unknown or repeated candidates, and for channels that the
    groups of a candidate do not divide.
    """
    for name, value, least in (("stem", stem, 1), ("first", first, 0), ("head", head, 1)):
        check_whole(name, value, least)
    _check_stages(widths, depths, (stem_stride, *strides))
    if activation not in ACTIVATIONS:
        raise unknown("activation", activation, ACTIVATIONS)
    blocks = _parse_candidates(candidates)
    layers = _layers(first or stem, widths, depths, strides)
    if first:
        layers = (Layer(stem, first, 1, "first block", 0, Block("mbconv", 3)), *layers)
    for layer in layers:
        for block in blocks if layer.fixed is None else ():
            _check_groups(block, layer)
    return Chain(stem, stem_stride, layers, head, blocks, activation, identity_activation, expand_always)


def _check_stages(widths: Sequence[int], depths: Sequence[int], strides: Sequence[int]) -> None:
    """Raises UserError for settings of stages that do not fit; the strides begin with the stem's."""
    lengths = len(widths), len(depths), len(strides) - 1
    if len(set(lengths)) > 1 or not widths:
        raise UserError(
            "widths, depths and strides have to hold one number for every stage, but have "
            f"{lengths[0]}, {lengths[1]} and {lengths[2]} of them."
        )
    for name, values in (("width", widths), ("depth", depths)):
        for stage, value in enumerate(values, start=1):
            check_whole(f"the {name} of stage {stage}", value, 1)
    for stage, stride in enumerate(strides):
        if stride not in (1, 2):
            raise UserError(
                f"the stride of {f'stage {stage}' if stage else 'the stem'} has to be 1 or 2, not {stride!r}."
            )


def _parse_candidates(names: Sequence[str]) -> tuple[Block, ...]:
    blocks = tuple(parse_block(name) for name in names)
    if not blocks:
        raise UserError(f"candidates has to name at least one block, such as {FORMS[0]!r}.")
    for number, block in enumerate(blocks):
        if block in blocks[:number]:
            raise UserError(f"candidates names the block '{block}' twice.")
    return blocks


def _layers(channels: int, widths: Sequence[int], depths: Sequence[int], strides: Sequence[int]) -> tuple[Layer, ...]:
    layers = []
    for stage, (width, depth, stride) in enumerate(zip(widths, depths, strides, strict=True), start=1):
        for number in range(depth):
            first = number == 0
            name = f"stage {stage} block {number + 1}"
            layers.append(Layer(channels if first else width, width, stride if first else 1, name, stage))
        channels = width
    return tuple(layers)


def _check_groups(block: Block, layer: Layer) -> None:
    for channels in (layer.channels_in, block.hidden(layer.channels_in), layer.channels):
        if channels % block.groups:
            raise UserError(
                f"{layer.name} has a pointwise convolution of {channels} channels, which the {block.groups} groups of "
                f"the candidate '{block}' do not divide; take {channels + -channels % block.groups}."
            )


def total_stride(plan: Chain) -> int:
    """Pixels of the image, along each axis, for one of the last feature map."""
    return plan.stem_stride * int(np.prod([layer.stride for layer in plan.layers]))


def check_image_size(plan: Chain, height: int, width: int) -> None:
    """Raises UserError for images that the strides shrink to less than one pixel."""
    least = total_stride(plan)
    if min(height, width) < least:
        raise UserError(
            f"the strides of this chain shrink images {least} times, which needs at least {least}x{least} pixels, "
            f"not {height}x{width}; take larger images or fewer strides of 2."
        )


def input_sizes(plan: Chain, height: int, width: int) -> tuple[tuple[int, int], ...]:
    """(height, width) of what each layer reads and, last, of what the head reads; strides round sizes up."""
    sizes = [(height, width)]
    for stride in (plan.stem_stride, *(layer.stride for layer in plan.layers)):
        sizes.append((-(-sizes[-1][0] // stride), -(-sizes[-1][1] // stride)))
    return tuple(sizes[1:])


def is_allowed(block: Block, layer: Layer) -> bool:
    """Whether a layer can have this block: "zero" leaves the input as it is, which needs the output's shape."""
    return block.kind != "zero" or layer.keeps_shape


def choice_layers(plan: Chain, shared: bool = False) -> tuple[tuple[int, ...], ...]:
    """The layers, by their numbers in plan.layers, that each choice decides: one, or with `shared` those of a stage."""
    free = [number for number, layer in enumerate(plan.layers) if layer.fixed is None]
    if not shared:
        return tuple((number,) for number in free)
    stages = sorted({plan.layers[number].stage for number in free})
    return tuple(tuple(number for number in free if plan.layers[number].stage == stage) for stage in stages)


def choice_names(plan: Chain, shared: bool = False) -> tuple[str, ...]:
    """What each choice is about, such as "stage 2 block 1", or with `shared` "stage 2"."""
    first = (plan.layers[numbers[0]] for numbers in choice_layers(plan, shared))
    return tuple(f"stage {layer.stage}" if shared else layer.name for layer in first)


def allowed_blocks(plan: Chain, shared: bool = False) -> np.ndarray:
    """Which candidates each choice has, bool [choices, candidates]: those that all its layers can have.

    Raises UserError for a choice without any.
    """
    allowed = np.array(
        [
            [all(is_allowed(block, plan.layers[number]) for number in numbers) for block in plan.candidates]
            for numbers in choice_layers(plan, shared)
        ]
    )
    for name, row in zip(choice_names(plan, shared), allowed, strict=True):
        if not row.any():
            raise UserError(f"{name} changes the shape of its input, which 'zero' cannot; add a candidate, 'identity'.")
    return allowed


def chain_space(plan: Chain, name: str, *, shared: bool = False, digits: bool = False) -> Space:
    """The space of a chain: one part, "blocks", with a row for every choice (see `choice_layers`).

    shared: one choice a stage for all its layers, MnasNet's factorised hierarchy. digits: architectures are written as
    option numbers, "22212202", as in NAS-Bench-Macro; otherwise as the candidates' names joined by "+".
    Raises UserError for a choice without candidates, and with digits for more than ten candidates.
    """
    options, allowed = plan.options, allowed_blocks(plan, shared)
    if digits and len(options) > 10:
        raise UserError(f"ten digits cannot number {len(options)} candidates; take at most 10.")

    def canonical(architecture: Architecture) -> str:
        names = option_names(PART, options, allowed, architecture)
        return "".join(str(options.index(option)) for option in names) if digits else "+".join(names)

    def parse(text: str) -> Architecture:
        names = _read_digits(text.strip(), options, len(allowed)) if digits else text.strip().split("+")
        return {PART: jax.device_put(options_to_numbers(PART, names, options, allowed))}

    return product_space(
        name, {PART: options}, {PART: len(allowed)}, allowed={PART: allowed}, canonical=canonical, parse=parse
    )


def _read_digits(text: str, options: Sequence[str], choices: int) -> list[str]:
    digits = "0123456789"[: len(options)]
    if len(text) != choices or set(text) - set(digits):
        raise UserError(f"the architecture {text!r} is not written as {choices} digits from 0 to {digits[-1]}.")
    return [options[int(digit)] for digit in text]


def chosen_blocks(plan: Chain, architecture: Architecture, *, shared: bool = False) -> tuple[Block, ...]:
    """The concrete block of every layer, fixed ones included.

    Raises UserError where the architecture's numbers do not fit the chain (see `spaces.product.option_names`).
    """
    names = option_names(PART, plan.options, allowed_blocks(plan, shared), architecture)
    chosen = {}
    for numbers, option in zip(choice_layers(plan, shared), names, strict=True):
        chosen |= dict.fromkeys(numbers, plan.candidates[plan.options.index(option)])
    return tuple(layer.fixed or chosen[number] for number, layer in enumerate(plan.layers))
