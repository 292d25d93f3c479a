"""Checks of options that are numbers in rising order: kernels, expansions, widths, depths, resolutions."""

import math
from collections.abc import Callable, Sequence

import numpy as np

from jaxnas.core.errors import UserError


def is_whole(value: object) -> bool:
    """Whether a value is a whole number above 0."""
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def is_number(value: object) -> bool:
    """Whether a value is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def check_whole(name: str, value: object, least: int) -> None:
    """Raises UserError unless a value is a whole number of at least so much."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UserError(f"{name} is {value!r}, but has to be a whole number of at least {least}.")


def check_channels(name: str, counts: Sequence[int], remedy: str) -> None:
    """Raises UserError where two options are as many channels; remedy: what to take instead."""
    if len(set(counts)) < len(counts):
        raise UserError(
            f"{name} round to {', '.join(map(str, counts))} channels, which names one of them twice; take {remedy}."
        )


def check_list(name: str, values: object, example: tuple[object, ...]) -> None:
    """Raises UserError unless there are several values, rather than one."""
    if not isinstance(values, list | tuple):
        raise UserError(f"{name} has to be a tuple, such as {example}, not {values!r}.")


def check_rising(
    name: str, values: Sequence[float], words: str, holds: Callable[[float], bool], example: tuple[float, ...]
) -> None:
    """Raises UserError unless there are values, all of them hold, and they rise; words: what they have to be."""
    check_list(name, values, example)
    rising = all(holds(value) for value in values) and all(np.diff(values) > 0)
    if not rising or not values:
        raise UserError(f"{name} has to hold {words} that rise, as in {example}, not {tuple(values)}.")
