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


def check_rising(
    name: str, values: Sequence[float], words: str, holds: Callable[[float], bool], example: tuple[float, ...]
) -> None:
    """Raises UserError unless there are values, all of them hold, and they rise; words: what they have to be."""
    rising = all(holds(value) for value in values) and all(np.diff(values) > 0)
    if not rising or not values:
        raise UserError(f"{name} has to hold {words} that rise, as in {example}, not {tuple(values)}.")
