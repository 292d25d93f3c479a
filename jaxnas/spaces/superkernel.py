"""Chains of MBConv blocks whose options are nested: a smaller kernel or fewer channels are a part of the largest.

So all options of a layer can share the weights of the largest one, a superkernel. Sources: Single-Path NAS (Stamoulis
et al. 2019), which chooses kernels and expansions, and FBNetV2 (Wan et al. 2020), which also chooses the channels of
the stages and the size of the images.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxnas.core.errors import UserError
from jaxnas.core.types import Architecture, Space
from jaxnas.spaces.block import Block
from jaxnas.spaces.chain import Chain, Layer, chain_plan
from jaxnas.spaces.product import option_names, product_space
from jaxnas.spaces.rising import check_channels, check_rising, is_number, is_whole

OTHERS = "options that differ more, or a wider stage"  # where two are as many channels
KERNEL, EXPANSION, WIDTH, RESOLUTION = "kernel", "expansion", "width", "resolution"


class Superkernel(NamedTuple):
    """What all architectures of a space have in common; the options of every kind rise.

    chain: the widest network; its layers that are not fixed are the searchable ones.
    kernels: sizes of the depthwise convolutions. expansions: hidden channels for each input channel of the widest
        network, 0 where a block may be skipped. width_fractions: channels of a stage as fractions of its widest.
    resolutions: height and width, in pixels, to which the images are subsampled.
    """

    chain: Chain
    kernels: tuple[int, ...]
    expansions: tuple[float, ...]
    width_fractions: tuple[float, ...]
    resolutions: tuple[int, ...]

    @property
    def searchable(self) -> tuple[int, ...]:
        """The numbers in chain.layers of the layers whose kernel and expansion are chosen, row by row."""
        return tuple(number for number, layer in enumerate(self.chain.layers) if layer.fixed is None)

    @property
    def stages(self) -> int:
        """The number of stages."""
        return self.chain.layers[-1].stage

    @property
    def options(self) -> dict[str, tuple[str, ...]]:
        """Names of the options of every part of the space; width and resolution only where there is a choice."""
        numbers = {KERNEL: self.kernels, EXPANSION: self.expansions}
        numbers |= {WIDTH: self.width_fractions} if len(self.width_fractions) > 1 else {}
        numbers |= {RESOLUTION: self.resolutions} if len(self.resolutions) > 1 else {}
        return {part: tuple(f"{number:g}" for number in of) for part, of in numbers.items()}


def superkernel_plan(
    *,
    stem: int,
    stem_stride: int,
    first: int,
    widths: Sequence[int],
    depths: Sequence[int],
    strides: Sequence[int],
    head: int,
    kernels: Sequence[int],
    expansions: Sequence[float],
    width_fractions: Sequence[float],
    resolutions: Sequence[int],
) -> Superkernel:
    """A superkernel in every layer of a chain of stages that have these widths (channels) at most.

    first: channels of a fixed block before the stages, as MobileNetV2 has it (depthwise 3×3 and projection), 0 for
    none. The other settings are those of `spaces.chain.chain_plan` and the fields of `Superkernel`. Raises UserError
    where that does, for options that are no such numbers or do not rise, and for two that give the same channels.
    """
    check_rising("kernels", kernels, "odd whole numbers", lambda one: is_whole(one) and one % 2 == 1, (3, 5))
    check_rising("expansions", expansions, "numbers of at least 0", lambda one: is_number(one) and one >= 0, (0, 3, 6))
    check_rising(
        "width_fractions", width_fractions, "numbers above 0", lambda one: is_number(one) and one > 0, (0.5, 1)
    )
    check_rising("resolutions", resolutions, "whole numbers above 0", is_whole, (16, 32))
    if expansions[-1] == 0:
        raise UserError("expansions offers nothing but 0, which skips a block; add one above 0, such as 6.")
    if width_fractions[-1] != 1:
        raise UserError(
            f"width_fractions are fractions of the widest, so the last has to be 1, not {width_fractions[-1]}."
        )
    chain = chain_plan(
        stem=stem,
        stem_stride=stem_stride,
        first=first,
        widths=widths,
        depths=depths,
        strides=strides,
        head=head,
        candidates=("identity",),
        activation="relu6",
        identity_activation=False,
        expand_always=True,  # a block of expansion 1 would lack weights that it shares with the others
    )
    fixed = (chain.layers[0]._replace(fixed=Block("separable", 3)),) if first else ()
    chain = chain._replace(
        layers=(*fixed, *chain.layers[len(fixed) :]), candidates=(Block("mbconv", kernels[-1], expansions[-1]),)
    )
    plan = Superkernel(chain, tuple(kernels), tuple(expansions), tuple(width_fractions), tuple(resolutions))
    for stage in range(1, plan.stages + 1):
        check_channels(f"the width_fractions of stage {stage}", channel_options(plan, stage), OTHERS)
    for number in plan.searchable:
        check_channels(f"the expansions of {chain.layers[number].name}", hidden_options(plan, number), OTHERS)
    return plan


def channel_options(plan: Superkernel, stage: int) -> tuple[int, ...]:
    """Channels of a stage for each width fraction; of stage 0, which is what comes before the first, its one number."""
    layers = [layer for layer in plan.chain.layers if layer.stage == stage]
    widest = layers[-1].channels if layers else plan.chain.stem
    fractions = plan.width_fractions if stage else (1.0,)
    return tuple(max(1, round(fraction * widest)) for fraction in fractions)


def hidden_options(plan: Superkernel, number: int) -> tuple[int, ...]:
    """Hidden channels of a layer for each expansion, 0 for skipping it: whatever the width that is chosen before it."""
    channels = plan.chain.layers[number].channels_in
    return tuple(max(1, round(expansion * channels)) if expansion else 0 for expansion in plan.expansions)


def starts_stage(plan: Superkernel, number: int) -> bool:
    """Whether a layer is the first of its stage, so that its input has the channels of the stage before."""
    layers = plan.chain.layers
    return number == 0 or layers[number - 1].stage != layers[number].stage


def allowed_expansions(plan: Superkernel) -> np.ndarray:
    """Which expansions each searchable layer has, bool [layers, expansions].

    0, the skipped block, needs an output that has the shape of the input whatever the widths.
    """
    fixed_width = len(plan.width_fractions) == 1
    can_skip = [
        plan.chain.layers[number].keeps_shape and (fixed_width or not starts_stage(plan, number))
        for number in plan.searchable
    ]
    return np.asarray([[skip or expansion > 0 for expansion in plan.expansions] for skip in can_skip])


def choice_names(plan: Superkernel) -> dict[str, tuple[str, ...]]:
    """What each choice of each part is about, such as "stage 2 block 1"."""
    layers = tuple(plan.chain.layers[number].name for number in plan.searchable)
    names = {KERNEL: layers, EXPANSION: layers, RESOLUTION: ("images",)}
    names[WIDTH] = tuple(f"stage {stage}" for stage in range(1, plan.stages + 1))
    return {part: names[part] for part in plan.options}


def _allowed(plan: Superkernel) -> dict[str, np.ndarray]:
    """{part: bool [choices, options]} for all parts of the space."""
    names = choice_names(plan)
    allowed = {part: np.ones((len(names[part]), len(options)), bool) for part, options in plan.options.items()}
    return allowed | {EXPANSION: allowed_expansions(plan)}


def superkernel_space(plan: Superkernel, name: str = "superkernel") -> Space:
    """The space of all combinations: a kernel and an expansion for each layer, a width for each stage, one resolution.

    Its parts are {"kernel": [layers, kernels], "expansion": [layers, expansions]} and, only where there is more than
    one option, {"width": [stages, width fractions], "resolution": [1, resolutions]}. Architectures that differ in the
    kernel of a skipped block are different, although they compute the same.
    """
    choices = {part: len(rows) for part, rows in choice_names(plan).items()}
    return product_space(name, plan.options, choices, allowed=_allowed(plan))


def chosen_options(plan: Superkernel, architecture: Architecture) -> dict[str, tuple[int, ...]]:
    """Option numbers of every part of a concrete architecture; 0 for the width and resolution that are no choice.

    Raises UserError where the numbers do not fit the space (see `spaces.product.option_names`).
    """
    allowed = _allowed(plan)
    names = {part: option_names(part, of, allowed[part], architecture) for part, of in plan.options.items()}
    numbers = {part: tuple(plan.options[part].index(name) for name in of) for part, of in names.items()}
    return {WIDTH: (0,) * plan.stages, RESOLUTION: (0,)} | numbers


def concrete_layer(plan: Superkernel, number: int, kernel: int, expansion: int, before: int, width: int) -> Layer:
    """A searchable layer under concrete options, with its block fixed: what runs there and between which channels.

    kernel, expansion: option numbers of the layer. before, width: those of the stages that its input and output belong
    to. The block's expansion is that of the channels which the layer reads: 12 where 6 is chosen and half is read.
    """
    layer = plan.chain.layers[number]
    stage_before = plan.chain.layers[number - 1].stage if number else 0
    channels_in, channels = channel_options(plan, stage_before)[before], channel_options(plan, layer.stage)[width]
    hidden = hidden_options(plan, number)[expansion]
    block = Block("mbconv", plan.kernels[kernel], hidden / channels_in) if hidden else Block("zero")
    return layer._replace(channels_in=channels_in, channels=channels, fixed=block)


def concrete_chain(plan: Superkernel, architecture: Architecture) -> Chain:
    """The chain of one architecture: every layer has its channels and its block, which is fixed.

    Raises UserError where the architecture's numbers do not fit the space.
    """
    chosen = chosen_options(plan, architecture)
    width = (0, *chosen[WIDTH])
    layers = list(plan.chain.layers)
    for row, number in enumerate(plan.searchable):
        stage = layers[number].stage
        before = layers[number - 1].stage if number else 0
        layers[number] = concrete_layer(
            plan, number, chosen[KERNEL][row], chosen[EXPANSION][row], width[before], width[stage]
        )
    return plan.chain._replace(layers=tuple(layers))


def chosen_resolution(plan: Superkernel, architecture: Architecture) -> int:
    """Height and width of the images that an architecture reads; raises UserError as `concrete_chain` does."""
    return plan.resolutions[chosen_options(plan, architecture)[RESOLUTION][0]]
