"""Errors a person can act on: one sentence that names the thing, what was wrong and the nearest right value.

This module imports nothing heavy, so that a launcher can report a mistake before JAX is loaded.
"""

import difflib
from collections.abc import Iterable, Mapping
from typing import TypeVar

Value = TypeVar("Value")


class UserError(ValueError):
    """A mistake that the user can mend; its text is the one sentence to show, without a traceback."""


class Stopped(Exception):
    """The run was asked to stop by a signal, such as "SIGTERM", and its state is saved. The text says where."""

    def __init__(self, signal: str, where: str) -> None:
        super().__init__(f"{signal}: stopped {where}, saved")
        self.signal = signal


def unknown(kind: str, name: object, known: Iterable[str]) -> UserError:
    """Builds the error for a name that is not among `known`, suggesting the nearest one."""
    names = sorted(known)
    near = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"known are: {', '.join(names)}."
    return UserError(f"unknown {kind} {str(name)!r}; {hint}")


def choose(kind: str, name: str, table: Mapping[str, Value]) -> Value:
    """Looks `name` up in `table`; raises UserError with the nearest known name when it is not there."""
    if not isinstance(name, str) or name not in table:  # a config may hold anything
        raise unknown(kind, name, table)
    return table[name]
