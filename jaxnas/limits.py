"""What every field of a config has to be: its type and its limit, checked before anything is built from it."""

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


def _at_least(least: int) -> Limit:
    return Limit(f"at least {least}", lambda value: least <= value < math.inf)


def _between(least: int, most: int) -> Limit:
    return Limit(f"from {least:,} to {most:,}", lambda value: least <= value <= most)


GROWTH = Limit("0 or above 1", lambda value: value == 0 or 1 < value < math.inf)
FINITE = Limit("finite", math.isfinite)
POSITIVE = Limit("above 0 and finite", lambda value: 0 < value < math.inf)
STRIDE = Limit("1 or 2", lambda value: value in (1, 2))
BELOW_ONE = Limit("at least 0 and below 1", lambda value: 0 <= value < 1)
PROBABILITY = Limit("from 0 to 1", lambda value: 0 <= value <= 1)
NOT_ABOVE_ZERO = Limit("at most 0 and finite", lambda value: -math.inf < value <= 0)


def _integer(limit: Limit) -> Field:
    return Field("a whole number", (int,), limit)


def _number(limit: Limit) -> Field:
    return Field("a number", (int, float), limit)


def _tuple_of(entry: Field) -> Field:
    return Field(f"a tuple, each entry {entry.words}", (tuple, list), None, entry)


FLAG = Field("True or False", (bool,))
TEXT = Field("a text", (str,))
TUPLE = Field("a tuple of names", (tuple, list))
FIELDS = {
    "seed": _integer(Limit(f"from 0 to {2**31 - 1}", lambda value: 0 <= value < 2**31)),  # a key is made of 32 bits
    "num_seeds": _integer(_at_least(1)),
    "epochs": _integer(_at_least(1)),
    "batch_size": _integer(_at_least(1)),
    "devices": _integer(_at_least(1)),
    "synchronize_statistics": FLAG,
    "method.name": TEXT,
    "space.name": TEXT,
    "cost.name": TEXT,
    "cost.table": TEXT,
    "cost.limit": _number(_at_least(0)),  # 0: whatever it costs
    "cost.penalty.name": TEXT,
    "table.path": TEXT,
    "table.metric": TEXT,
    "table.scale": _number(POSITIVE),
    "monitor.skips": _integer(_at_least(0)),  # 0: never stop because of identities
    "monitor.curvature": FLAG,
    "monitor.curvature_growth": _number(GROWTH),  # 0: never stop because of the curvature
    "data.name": TEXT,
    "data.path": TEXT,
    "data.train_fraction": _number(Limit("above 0 and below 1", lambda value: 0 < value < 1)),
    "data.crop_padding": _integer(_at_least(0)),
    "data.flip": FLAG,
    "data.cutout": _integer(_at_least(0)),
    "retrain.epochs": _integer(_at_least(0)),  # 0: what was found is not trained
    "retrain.batch_size": _integer(_at_least(1)),
    "retrain.auxiliary_weight": _number(_at_least(0)),
    "retrain.drop_path": _number(BELOW_ONE),
    "retrain.cutout": _integer(_at_least(0)),
    "retrain.learning_rate": _number(POSITIVE),
    "retrain.momentum": _number(BELOW_ONE),
    "retrain.weight_decay": _number(_at_least(0)),
    "retrain.clip": _number(POSITIVE),
    "retrain.random_baseline": FLAG,
    "checkpoint.every_steps": _integer(_at_least(0)),
    "checkpoint.every_seconds": _number(_at_least(0)),
    "checkpoint.keep": _integer(_at_least(1)),
}
# Fields that some spaces have; which ones a space needs is the signature of its function in networks/families.py.
SPACE_FIELDS = {
    "space.channels": _integer(_at_least(2)),
    "space.layers": _integer(_at_least(1)),
    "space.nodes": _integer(_at_least(1)),
    "space.operations": TUPLE,
    "space.reduce_operations": TUPLE,
    "space.cells": _integer(_at_least(1)),
    "space.stem": _integer(_at_least(1)),
    "space.stem_stride": _integer(STRIDE),
    "space.first": _integer(_at_least(0)),
    "space.widths": _tuple_of(_integer(_at_least(1))),
    "space.depths": _tuple_of(_integer(_at_least(1))),
    "space.strides": _tuple_of(_integer(STRIDE)),
    "space.head": _integer(_at_least(1)),
    "space.candidates": TUPLE,
    "space.kernels": _tuple_of(_integer(_at_least(1))),
    "space.expansions": _tuple_of(_number(_at_least(0))),
    "space.width_fractions": _tuple_of(_number(POSITIVE)),
    "space.resolutions": _tuple_of(_integer(_at_least(1))),
    "retrain.channels": _integer(_at_least(2)),
    "retrain.layers": _integer(_at_least(1)),
    "retrain.auxiliary": FLAG,
}
# Fields that some methods have; which ones a method needs is the signature of its function in methods/.
METHOD_FIELDS = {
    "method.order": _integer(Limit("1 or 2", lambda value: value in (1, 2))),
    "method.hessian": TEXT,
    "method.weights_learning_rate": _number(POSITIVE),
    "method.weights_final_learning_rate": _number(_at_least(0)),
    "method.momentum": _number(BELOW_ONE),
    "method.weight_decay": _number(_at_least(0)),
    "method.clip": _number(POSITIVE),
    "method.logits_learning_rate": _number(POSITIVE),
    "method.logits_weight_decay": _number(_at_least(0)),
    "method.temperature": _number(POSITIVE),
    "method.final_temperature": _number(POSITIVE),
    "method.bare_gates": FLAG,
    **{f"cost.penalty.{n}": _number(FINITE) for n in ("weight", "reference", "exponent", "threshold", "target")},
    **{f"cost.penalty.{n}": _number(FINITE) for n in ("alpha", "beta")},
    "cost.penalty.hard": FLAG,
    "method.draw": TEXT,
    "method.credit": TEXT,
    "method.samples": _integer(_at_least(1)),
    "method.fix_above": _number(Limit("above 0 and at most 1", lambda value: 0 < value <= 1)),
    "method.partial": _integer(_at_least(1)),
    "method.warmup_epochs": _integer(_at_least(0)),
    "method.stage_layers": _tuple_of(_integer(_at_least(1))),
    "method.stage_channels": _tuple_of(_integer(_at_least(2))),
    "method.stage_operations": _tuple_of(_integer(_at_least(1))),
    "method.stage_dropout": _tuple_of(_number(BELOW_ONE)),
    "method.skips": _integer(_at_least(0)),
    "method.gates": TEXT,
    "method.every": _integer(_at_least(1)),
    "method.distribution_learning_rate": _number(POSITIVE),
    "method.sampler": TEXT,
    "method.estimator": TEXT,
    "method.scale": _number(POSITIVE),
    "method.single_level": FLAG,
    "method.candidates": _integer(_at_least(1)),
    "method.finalists": _integer(_at_least(1)),
    "method.reduction": _integer(_at_least(2)),
    "method.rungs": _integer(_at_least(1)),
    "method.dropout": _number(BELOW_ONE),
    "method.rounds": _integer(_at_least(1)),
    "method.population": _integer(_at_least(1)),
    "method.parents": _integer(_at_least(1)),
    "method.mutants": _integer(_at_least(0)),
    "method.crossovers": _integer(_at_least(0)),
    "method.mutation_rate": _number(PROBABILITY),
    "method.crossover_rate": _number(PROBABILITY),
    "method.calibrate": _integer(_at_least(0)),  # 0: every batch is normalised by its own statistics
    "method.splits": _integer(_at_least(0)),
    "method.split_at": _tuple_of(_integer(_at_least(0))),
    "method.probes": _integer(_at_least(1)),
    "method.member_epochs": _integer(_at_least(1)),
    "method.cost_bins": _integer(_at_least(0)),  # 0: paths are uniform, whatever they cost
    "method.hidden": _integer(_at_least(1)),
    "method.tanh_constant": _number(_at_least(0)),  # 0: logits are not bounded
    "method.entropy_weight": _number(_at_least(0)),
    "method.baseline_decay": _number(BELOW_ONE),
    "method.skip_weight": _number(_at_least(0)),
    "method.skip_target": _number(Limit("above 0 and below 1", lambda value: 0 < value < 1)),
    "method.stage_bases": _tuple_of(_number(POSITIVE)),
    "method.stage_exponents": _tuple_of(_number(Limit("at most 0 and finite", lambda value: -math.inf < value <= 0))),
    "method.hard": FLAG,
    "method.behaviour": TEXT,
    "method.epsilon": _number(Limit("from 0 to 1", lambda value: 0 <= value <= 1)),
    "method.correction": TEXT,
    "method.importance_clip": _number(_at_least(1)),
    "method.replay": _integer(_at_least(0)),
    "method.replayed": _integer(_at_least(0)),
    "method.mode": TEXT,
    "method.cycle_epochs": _tuple_of(_integer(_at_least(1))),
    "method.selection": TEXT,
}
# The config of a lab experiment; every_seconds and keep are the only fields of checkpoint there.
LAB_GROUPS = ("settings", "when_small", "checkpoint")
LAB_FIELDS = {
    "experiment": TEXT,
    "question": TEXT,
    "small": FLAG,
    **{name: FIELDS[name] for name in ("seed", "checkpoint.every_seconds", "checkpoint.keep")},
}
# The config of a comparison; what is wrong with the searches in base and methods, `plan` finds.
COMPARISON_GROUPS = ("base", "methods", "table", "ranking")
COMPARISON_FIELDS = {
    "question": TEXT,
    "equal_budget": FLAG,
    **{name: FIELDS[name] for name in ("table.path", "table.metric", "table.scale")},
    "ranking.architectures": _integer(_at_least(0)),
    "ranking.images": _integer(_at_least(0)),  # 0: all of the validation half
}
# The config of searches in a table; the settings of a strategy are the signature of its function in strategies/.
TABULAR_GROUPS = ("space", "images", "table", "cost", "strategies")
TABULAR_FIELDS = {
    "question": TEXT,
    "seed": FIELDS["seed"],
    "repetitions": _integer(_between(1, 1_000_000)),
    "evaluations": _integer(_between(1, 10_000_000)),
    **{f"images.{name}": _integer(_at_least(1)) for name in ("size", "channels", "classes")},
    **{name: FIELDS[name] for name in ("table.path", "table.metric", "table.scale")},
    "table.trainings": TUPLE,
    "table.noise": _number(_between(0, 1_000_000)),
    "table.missing": TEXT,
    "cost.name": TEXT,
    "cost.column": TEXT,
    "cost.limit": FIELDS["cost.limit"],
    "cost.target": _number(_at_least(0)),  # 0: the reward is the accuracy
    "cost.exponent": _number(NOT_ABOVE_ZERO),
    "cost.hard": FLAG,
}
SYNTHETIC_FIELDS = {
    "space.choices": _integer(_between(2, 100)),
    "space.options": _integer(_between(2, 1_000_000)),
    "space.interactions": _number(_between(0, 1_000_000)),
    "space.seed": _integer(_at_least(0)),
}
STRATEGY_FIELDS = {
    **{name: _integer(_between(1, 100_000)) for name in ("batch", "candidates", "population", "parents", "sample")},
    **{name: _integer(_between(0, 100_000)) for name in ("mutants", "crossovers", "replay", "replayed")},
    "rungs": _integer(_at_least(1)),
    **{name: _integer(_at_least(1)) for name in ("updates", "hidden")},
    "reduction": _integer(_at_least(2)),
    **{name: _number(POSITIVE) for name in ("learning_rate", "temperature", "clip_ratio")},
    **{name: _number(_at_least(0)) for name in ("entropy_weight", "tanh_constant", "gradient_clip", "clip")},
    **{name: _number(PROBABILITY) for name in ("mutation_rate", "crossover_rate", "epsilon")},
    "baseline_decay": _number(BELOW_ONE),
    **dict.fromkeys(("name", "behaviour", "correction", "selection"), TEXT),
}


def check_fields(config: Config) -> None:
    """Raises UserError for the first field that is unknown, missing, of another type or outside its limit."""
    values = dict(_flat(config))
    known = FIELDS | SPACE_FIELDS | METHOD_FIELDS
    for name in values:
        if name not in known and not name.startswith(("method.", "space.", "cost.penalty.")):
            raise unknown("config field", name, known)
    for name, field in known.items():
        if name in values or name in FIELDS:
            _check_field(values, name, field)


def check_lab_fields(config: Config) -> None:
    """The same for the config of a lab experiment, without its settings, which are the experiment's to check."""
    _check_own_fields(config, LAB_FIELDS, LAB_GROUPS)


def check_comparison_fields(config: Config) -> None:
    """The same for the config of a comparison, without its searches, which are checked as every search is."""
    _check_own_fields(config, COMPARISON_FIELDS, COMPARISON_GROUPS)


def check_tabular_fields(config: Config) -> None:
    """The same for the config of searches in a table; which of them a space or a strategy takes is checked later."""
    _check_own_fields(config, TABULAR_FIELDS, TABULAR_GROUPS)
    space = {f"space.{name}": value for name, value in config.space.items()}
    known = FIELDS | SPACE_FIELDS | SYNTHETIC_FIELDS
    for name in {"space.name": None} | space:
        if name in known:
            _check_field(space, name, known[name])
    for label, entry in config.strategies.items():
        if not hasattr(entry, "items") or "name" not in entry:
            raise UserError(f"strategies.{label} lacks the field 'name', a text.")
        values = {f"strategies.{label}.{name}": value for name, value in _flat(entry)}
        for name in values:
            field = STRATEGY_FIELDS.get(name.rpartition(".")[2])
            if field is not None:
                _check_field(values, name, field)


def _check_own_fields(config: Config, fields: Mapping[str, Field], groups: Sequence[str]) -> None:
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
        _check_field(values, name, field)


def _check_field(values: Mapping[str, Any], name: str, field: Field) -> None:
    if name not in values:
        raise UserError(f"the config lacks the field {name!r}, {field.words}.")
    value = values[name]
    if not isinstance(value, field.types) or (isinstance(value, bool) and bool not in field.types):
        raise UserError(f"{name} must be {field.words}, not {value!r}.")
    if field.limit is not None and not field.limit.holds(value):
        raise UserError(f"{name} must be {field.limit.words}, not {value}.")
    if field.entry is not None and isinstance(value, tuple | list):
        for number, one in enumerate(value):
            _check_field({f"{name}[{number}]": one}, f"{name}[{number}]", field.entry)


def _flat(config: Config, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """All fields with dots in their names; an empty group has none."""
    for name, value in config.items():
        if hasattr(value, "items"):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value
