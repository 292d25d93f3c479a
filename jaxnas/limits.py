"""What every number of a config has to be: limits, checked before anything is built from it."""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

from jaxnas.core.errors import UserError

# A ConfigDict. Its own annotations make every field a union of types, which no function accepts.
Config = Any


class Limit(NamedTuple):
    """A limit in words that follow "must be", and as a test, which is false for NaN."""

    words: str
    holds: Callable[[float], bool]


def _at_least(least: int) -> Limit:
    return Limit(f"at least {least}", lambda value: least <= value < math.inf)


POSITIVE = Limit("above 0 and finite", lambda value: 0 < value < math.inf)
BELOW_ONE = Limit("at least 0 and below 1", lambda value: 0 <= value < 1)
LIMITS = {
    "epochs": _at_least(1),
    "batch_size": _at_least(1),
    "num_seeds": _at_least(1),
    "seed": Limit(f"from 0 to {2**31 - 1}", lambda value: 0 <= value < 2**31),  # a key is made of 32 bits
    "space.channels": _at_least(2),
    "space.layers": _at_least(1),
    "data.train_fraction": Limit("above 0 and below 1", lambda value: 0 < value < 1),
    "data.crop_padding": _at_least(0),
    "data.cutout": _at_least(0),
    "method.weights_learning_rate": POSITIVE,
    "method.weights_final_learning_rate": _at_least(0),
    "method.momentum": BELOW_ONE,
    "method.weight_decay": _at_least(0),
    "method.clip": POSITIVE,
    "method.logits_learning_rate": POSITIVE,
    "method.logits_weight_decay": _at_least(0),
    "method.temperature": POSITIVE,
    "method.final_temperature": POSITIVE,
    "retrain.epochs": _at_least(0),  # 0: what was found is not trained
    "retrain.batch_size": _at_least(1),
    "retrain.channels": _at_least(2),
    "retrain.layers": _at_least(1),
    "retrain.auxiliary_weight": _at_least(0),
    "retrain.drop_path": BELOW_ONE,
    "retrain.cutout": _at_least(0),
    "retrain.learning_rate": POSITIVE,
    "retrain.momentum": BELOW_ONE,
    "retrain.weight_decay": _at_least(0),
    "retrain.clip": POSITIVE,
    "checkpoint.every_steps": _at_least(0),
    "checkpoint.every_seconds": _at_least(0),
    "checkpoint.keep": _at_least(1),
}


def check_numbers(config: Config) -> None:
    """Raises UserError for the first number outside its limit; fields that a method does not have are left out."""
    for field, limit in LIMITS.items():
        *groups, name = field.split(".")
        group = functools.reduce(lambda node, part: node[part], groups, config)
        if name in group and not limit.holds(group[name]):
            raise UserError(f"{field} must be {limit.words}, not {group[name]}.")
