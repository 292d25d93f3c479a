"""What a field of a config can be: its type and its limit, and the sentences that say which it is not."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from jaxnas.core.errors import UserError, unknown

# A ConfigDict. Its own annotations make every field a union of types, which no function accepts.
Config = Any


class Limit(NamedTuple):
    """A limit in words that follow "must be", and as a test, which is false for NaN."""

    words: str
    holds: Callable[[Any], bool]


class Field(NamedTuple):
    """A field's type, in words that follow "must be", the Python types that have it, its limit and that of entries."""

    words: str
    types: tuple[type, ...]
    limit: Limit | None = None
    entry: "Field | None" = None


def at_least(least: int) -> Limit:
    """A number from `least` on."""
    return Limit(f"at least {least}", lambda value: least <= value < math.inf)


def between(least: int, most: int) -> Limit:
    """A number from `least` to `most`."""
    return Limit(f"from {least:,} to {most:,}", lambda value: least <= value <= most)


GROWTH = Limit("0 or above 1", lambda value: value == 0 or 1 < value < math.inf)
FINITE = Limit("finite", math.isfinite)
POSITIVE = Limit("above 0 and finite", lambda value: 0 < value < math.inf)
STRIDE = Limit("1 or 2", lambda value: value in (1, 2))
BELOW_ONE = Limit("at least 0 and below 1", lambda value: 0 <= value < 1)
PROBABILITY = Limit("from 0 to 1", lambda value: 0 <= value <= 1)
NOT_ABOVE_ZERO = Limit("at most 0 and finite", lambda value: -math.inf < value <= 0)


def integer(limit: Limit) -> Field:
    """A field of whole numbers."""
    return Field("a whole number", (int,), limit)


def number(limit: Limit) -> Field:
    """A field of numbers."""
    return Field("a number", (int, float), limit)


def tuple_of(entry: Field) -> Field:
    """A field of tuples whose entries are like `entry`."""
    return Field(f"a tuple, each entry {entry.words}", (tuple, list), None, entry)


FLAG = Field("True or False", (bool,))
TEXT = Field("a text", (str,))
TUPLE = Field("a tuple of names", (tuple, list))


def check_own_fields(config: Config, fields: Mapping[str, Field], groups: Sequence[str]) -> None:
    """Checks `fields`, those of groups with a dot; groups without such fields are left to others."""
    for name in groups:
        if name not in config:
            raise UserError(f"the config lacks the field {name!r}, a group of fields.")
        if not hasattr(config[name], "items"):
            raise UserError(f"{name} must be a group of fields, not {config[name]!r}.")
    own = {name.split(".")[0] for name in fields if "." in name}
    values = {name: value for name, value in config.items() if name not in groups}
    values |= {f"{group}.{name}": value for group in groups if group in own for name, value in config[group].items()}
    for name in values:
        if name not in fields:
            raise unknown("config field", name, [*fields, *groups])
    for name, field in fields.items():
        check_field(values, name, field)


def check_field(values: Mapping[str, Any], name: str, field: Field) -> None:
    """Raises UserError where the value of a name is missing, of another type or outside its limit."""
    if name not in values:
        raise UserError(f"the config lacks the field {name!r}, {field.words}.")
    value = values[name]
    if not isinstance(value, field.types) or (isinstance(value, bool) and bool not in field.types):
        raise UserError(f"{name} must be {field.words}, not {value!r}.")
    if field.limit is not None and not field.limit.holds(value):
        raise UserError(f"{name} must be {field.limit.words}, not {value}.")
    if field.entry is not None and isinstance(value, tuple | list):
        for at, one in enumerate(value):
            check_field({f"{name}[{at}]": one}, f"{name}[{at}]", field.entry)


def flat(config: Config, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """All fields with dots in their names; an empty group has none."""
    for name, value in config.items():
        if hasattr(value, "items"):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value
