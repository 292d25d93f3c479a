"""Spaces in which every combination of options is an architecture: chains of blocks, widths, single cells."""

from collections.abc import Callable, Mapping, Sequence
from math import prod

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.core.errors import UserError, unknown
from jaxnas.core.types import Architecture, Logits, Space


def product_space(
    name: str,
    options: Mapping[str, Sequence[str]],
    choices: Mapping[str, int],
    *,
    allowed: Mapping[str, np.ndarray] | None = None,
    canonical: Callable[[Architecture], str] | None = None,
    parse: Callable[[str], Architecture] | None = None,
) -> Space:
    """The space of all combinations of options: {part: names of the options} and {part: number of choices}.

    allowed: {part: bool [choices, options]} where some choices lack some options; a part that is not named has all.
    canonical, parse: the canonical string where the literature has one; otherwise "part:option+option;part:option".
    Raises UserError for an option that is named twice.
    """
    named = {part: tuple(names) for part, names in options.items()}
    for part, names in named.items():
        if len(set(names)) < len(names):
            raise UserError(f"the options of {part}, {', '.join(names)}, name one of them twice.")
    shapes = {part: (choices[part], len(names)) for part, names in named.items()}
    mask = {part: np.ones(shape, bool) for part, shape in shapes.items()} | dict(allowed or {})

    def best(scores: Logits) -> Architecture:
        return {
            part: jnp.argmax(jnp.where(mask[part], scores[part], -jnp.inf), axis=-1).astype(jnp.int32)
            for part in shapes
        }

    return Space(
        name=name,
        shapes=shapes,
        options=named,
        allowed=mask,
        size=prod(int(row.sum()) for rows in mask.values() for row in rows),
        decode=best,
        best=best,
        canonical=canonical or (lambda architecture: _write(named, mask, architecture)),
        parse=parse or (lambda text: _parse(named, mask, text)),
    )


def option_names(part: str, options: Sequence[str], allowed: np.ndarray, architecture: Architecture) -> tuple[str, ...]:
    """The names of a part's chosen options; raises UserError where the numbers do not fit or are not allowed."""
    if part not in architecture:
        raise UserError(f"the architecture has no {part}, but only {', '.join(architecture)}.")
    numbers = np.asarray(architecture[part])
    choices = len(allowed)
    if numbers.shape != (choices,) or not np.issubdtype(numbers.dtype, np.integer):
        raise UserError(
            f"{part} of the architecture has to be {choices} integers, not {numbers.dtype} of shape {numbers.shape}."
        )
    if np.any((numbers < 0) | (numbers >= len(options))):
        raise UserError(f"{part} of the architecture has to hold option numbers from 0 to {len(options) - 1}.")
    names = (options[int(number)] for number in numbers)
    return tuple(checked_option(part, row, name, options, allowed) for row, name in enumerate(names))


def checked_option(part: str, row: int, option: str, options: Sequence[str], allowed: np.ndarray) -> str:
    """An option's name, as it is; raises UserError where choice `row` of the part does not have it."""
    possible = [name for name, have in zip(options, allowed[row], strict=True) if have]
    if option not in possible:
        raise unknown(f"option at choice {row} of {part}:", option, possible)
    return option


def options_to_numbers(part: str, names: Sequence[str], options: Sequence[str], allowed: np.ndarray) -> np.ndarray:
    """The inverse of `option_names`: int32 [choices]. Raises UserError for another length and for unknown options."""
    if len(names) != len(allowed):
        raise UserError(
            f"{part} has {len(names)} choices, but this space has {len(allowed)}; the architecture is of another space."
        )
    checked = (checked_option(part, row, name, options, allowed) for row, name in enumerate(names))
    return np.asarray([options.index(name) for name in checked], np.int32)


def _write(
    options: Mapping[str, tuple[str, ...]], allowed: Mapping[str, np.ndarray], architecture: Architecture
) -> str:
    return ";".join(
        f"{part}:{'+'.join(option_names(part, names, allowed[part], architecture))}" for part, names in options.items()
    )


def _parse(options: Mapping[str, tuple[str, ...]], allowed: Mapping[str, np.ndarray], text: str) -> Architecture:
    if not isinstance(text, str):
        raise UserError(f"an architecture is written as text, such as {next(iter(options))}:option+..., not {text!r}.")
    parts = [piece.partition(":") for piece in text.strip().split(";")]
    if [part for part, _, _ in parts] != list(options):
        form = ";".join(f"{part}:option+..." for part in options)
        raise UserError(f"the architecture {text.strip()!r} is not written {form}.")
    return {
        part: jax.device_put(options_to_numbers(part, names.split("+"), options[part], allowed[part]))
        for part, _, names in parts
    }
