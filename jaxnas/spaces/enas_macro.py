"""The macro space of ENAS (Pham et al. 2018, section 2.3): for every layer an operation and the outputs added to it.

State 0 is the output of the stem and state i that of layer i. Layer i applies its operation to state i - 1 and may add
any of the states before that one.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np

from jaxnas.core.errors import UserError, choose
from jaxnas.core.types import Architecture, Space
from jaxnas.spaces.product import option_names, options_to_numbers, product_space

PART, SKIPS = "operations", "skips"
ANSWERS = ("no", "yes")  # whether a state is added; not "0", which elsewhere stands for a layer that is left out
FEWEST_LAYERS = 3  # one for each of the three sizes


class Operation(NamedTuple):
    """What a layer does after its 1×1 convolution: "conv", "sep_conv", "max_pool" or "avg_pool", size × size pixels."""

    kind: str
    size: int


OPERATIONS: Mapping[str, Operation] = {
    f"{kind}_{size}x{size}": Operation(kind, size)
    for kind, sizes in {"conv": (3, 5), "sep_conv": (3, 5), "max_pool": (3,), "avg_pool": (3,)}.items()
    for size in sizes
}


class MacroLayer(NamedTuple):
    """What an architecture chose for one layer: the name of its operation, and the states that it adds, ascending."""

    operation: str
    skips: tuple[int, ...]


def skip_edges(layers: int) -> tuple[tuple[int, int], ...]:
    """(state, layer) of every skip connection there can be, layer by layer; layers are numbered from 1."""
    return tuple((state, layer) for layer in range(1, layers + 1) for state in range(layer - 1))


def reductions(layers: int) -> tuple[int, int]:
    """The layers after which the size of all states so far is halved: the last of the first and of the second third."""
    return layers // 3, 2 * (layers // 3)


def enas_macro_space(layers: int, operations: Sequence[str]) -> Space:
    """The space of parts "operations" [layers, operations] and "skips" [layers · (layers - 1) / 2, 2].

    Rows of skips are in the order of `skip_edges`, and option 1 adds the state. Canonical strings join the layers by |;
    a layer is its operation and, from the second on, a digit for every state that it may add, 1 where it does:
    "conv_3x3|sep_conv_5x5:0|max_pool_3x3:10". Every combination is valid.
    Raises UserError for fewer than three layers, and for no, unknown or repeated operations.
    """
    names = tuple(operations)
    if layers < FEWEST_LAYERS:
        raise UserError(f"layers is {layers}, but the macro space has three sizes; take at least {FEWEST_LAYERS}.")
    if not names:
        raise UserError(f"operations has to name at least one operation, such as {next(iter(OPERATIONS))!r}.")
    for name in names:
        choose("operation", name, OPERATIONS)

    def canonical(architecture: Architecture) -> str:
        return "|".join(
            layer.operation + (":" * (number > 0)) + "".join(str(int(state in layer.skips)) for state in range(number))
            for number, layer in enumerate(macro_layers(layers, names, architecture))
        )

    return product_space(
        "enas_macro",
        {PART: names, SKIPS: ANSWERS},
        {PART: layers, SKIPS: len(skip_edges(layers))},
        canonical=canonical,
        parse=lambda text: _parse(layers, names, text),
    )


def macro_layers(layers: int, operations: Sequence[str], architecture: Architecture) -> tuple[MacroLayer, ...]:
    """The layers of one concrete architecture of the space of so many layers with these operations.

    Raises UserError where the architecture's numbers do not fit the space (see `spaces.product.option_names`).
    """
    edges, allowed = skip_edges(layers), _allowed(layers, operations)
    chosen = option_names(PART, operations, allowed[PART], architecture)
    answers = option_names(SKIPS, ANSWERS, allowed[SKIPS], architecture)
    taken = [edge for edge, answer in zip(edges, answers, strict=True) if answer == ANSWERS[1]]
    return tuple(
        MacroLayer(operation, tuple(state for state, at in taken if at == layer))
        for layer, operation in enumerate(chosen, start=1)
    )


def _allowed(layers: int, operations: Sequence[str]) -> dict[str, np.ndarray]:
    """All options of every choice."""
    shapes = {PART: (layers, len(operations)), SKIPS: (len(skip_edges(layers)), len(ANSWERS))}
    return {part: np.ones(shape, bool) for part, shape in shapes.items()}


def _parse(layers: int, operations: tuple[str, ...], text: str) -> Architecture:
    pieces = text.strip().split("|")
    if len(pieces) != layers:
        raise UserError(f"the architecture {text.strip()!r} has {len(pieces)} layers joined by |, but needs {layers}.")
    names, answers = [], []
    for number, piece in enumerate(pieces):
        name, colon, digits = piece.partition(":")
        if bool(colon) != (number > 0) or len(digits) != number or set(digits) - set("01"):
            form = name + ":" * (number > 0) + "0" * number
            raise UserError(f"layer {number + 1} is {piece!r}, but has to look like {form!r}, a digit for every state.")
        names.append(name)
        answers += [ANSWERS[int(digit)] for digit in digits]
    allowed = _allowed(layers, operations)
    return {
        PART: jax.device_put(options_to_numbers(PART, names, operations, allowed[PART])),
        SKIPS: jax.device_put(options_to_numbers(SKIPS, answers, ANSWERS, allowed[SKIPS])),
    }
