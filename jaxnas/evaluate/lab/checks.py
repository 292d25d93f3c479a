"""What the settings of the lab's experiments have to be: every mistake is one sentence before anything runs."""

import math
from collections.abc import Callable, Sequence
from typing import Any

from jaxnas.core.errors import UserError

MOST_RATES = 1_000_000


def check_positive(name: str, value: float, usual: float = 0.1) -> None:
    """Raises UserError for what is no number, or not positive and finite."""
    check_number(name, value)
    if not 0 < value < math.inf:
        raise UserError(f"{name} must be positive and finite, not {value}; {usual:g} is a usual value.")


def check_number(name: str, value: float) -> None:
    """Raises UserError for what is no number."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise UserError(f"{name} must be a number, not {value!r}.")


def check_count(name: str, value: int, least: int = 1) -> None:
    """Raises UserError for what is no whole number, or below the least one."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise UserError(f"{name} must be a whole number, not {value!r}.")
    if value < least:
        raise UserError(f"{name} must be at least {least}, not {value}.")


def check_flag(name: str, value: bool) -> None:
    """Raises UserError for what is neither true nor false."""
    if not isinstance(value, bool):
        raise UserError(f"{name} must be True or False, not {value!r}.")


def check_text(name: str, value: str) -> None:
    """Raises UserError for what is no text."""
    if not isinstance(value, str):
        raise UserError(f"{name} must be a text, not {value!r}.")


def check_counts(**counts: int) -> None:
    """Raises UserError for what is no number of things: no whole number, or below one."""
    for name, count in counts.items():
        check_count(name, count)


def check_list(name: str, given: Sequence[Any], check: Callable[[str, Any], Any] | None = None) -> None:
    """Raises UserError for what is no tuple or list of values that each stand there once, and as check(name, value)."""
    if not isinstance(given, tuple | list | range):
        raise UserError(f"{name} must be a tuple, not {given!r}; write ({given!r},) for one value.")
    if not given:
        raise UserError(f"{name} must hold at least one value, but it is empty.")
    if check is not None:
        for value in given:
            check(name, value)
    if any(value in given[:number] for number, value in enumerate(given)):
        raise UserError(f"every value of {name} may be given once, but they are {', '.join(map(str, given))}.")


def checked_range(name: str, given: Sequence[Any]) -> tuple[float, float, int]:
    """(smallest, largest, how many) of positive rates; raises UserError for anything else."""
    try:
        smallest, largest, number = given
        check_positive(name, smallest)
        check_positive(name, largest)
        check_count(name, number)
        if smallest > largest or number > MOST_RATES:
            raise ValueError
    except (TypeError, ValueError):  # also those of the checks: one sentence says it all
        raise UserError(
            f"{name} must be (smallest, largest, how many), numbers with 0 < smallest ≤ largest and a whole number "
            f"from 1 to {MOST_RATES:,}, not {given!r}."
        ) from None
    return smallest, largest, number


def check_sign_layers(layers: int) -> None:
    """Raises UserError for a number of layers that leaves no sign: the last layer has none."""
    check_count("layers", layers, 2)
