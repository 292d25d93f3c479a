"""The fields of a search's config."""

import math

from jaxnas.core.errors import unknown
from jaxnas.limits.kinds import (
    BELOW_ONE,
    FINITE,
    FLAG,
    GROWTH,
    POSITIVE,
    PROBABILITY,
    STRIDE,
    TEXT,
    TUPLE,
    Config,
    Limit,
    at_least,
    check_field,
    flat,
    integer,
    number,
    tuple_of,
)

FIELDS = {
    "seed": integer(Limit(f"from 0 to {2**31 - 1}", lambda value: 0 <= value < 2**31)),  # a key is made of 32 bits
    "num_seeds": integer(at_least(1)),
    "epochs": integer(at_least(1)),
    "batch_size": integer(at_least(1)),
    "devices": integer(at_least(1)),
    "synchronize_statistics": FLAG,
    "method.name": TEXT,
    "space.name": TEXT,
    "cost.name": TEXT,
    "cost.table": TEXT,
    "cost.limit": number(at_least(0)),  # 0: whatever it costs
    "cost.penalty.name": TEXT,
    "table.path": TEXT,
    "table.metric": TEXT,
    "table.scale": number(POSITIVE),
    "monitor.skips": integer(at_least(0)),  # 0: never stop because of identities
    "monitor.curvature": FLAG,
    "monitor.curvature_growth": number(GROWTH),  # 0: never stop because of the curvature
    "data.name": TEXT,
    "data.path": TEXT,
    "data.train_fraction": number(Limit("above 0 and below 1", lambda value: 0 < value < 1)),
    "data.crop_padding": integer(at_least(0)),
    "data.flip": FLAG,
    "data.cutout": integer(at_least(0)),
    "retrain.epochs": integer(at_least(0)),  # 0: what was found is not trained
    "retrain.batch_size": integer(at_least(1)),
    "retrain.auxiliary_weight": number(at_least(0)),
    "retrain.drop_path": number(BELOW_ONE),
    "retrain.cutout": integer(at_least(0)),
    "retrain.learning_rate": number(POSITIVE),
    "retrain.momentum": number(BELOW_ONE),
    "retrain.weight_decay": number(at_least(0)),
    "retrain.clip": number(POSITIVE),
    "retrain.random_baseline": FLAG,
    "checkpoint.every_steps": integer(at_least(0)),
    "checkpoint.every_seconds": number(at_least(0)),
    "checkpoint.keep": integer(at_least(1)),
}
# Fields that some spaces have; which ones a space needs is the signature of its function in networks/families.py.
SPACE_FIELDS = {
    "space.channels": integer(at_least(2)),
    "space.layers": integer(at_least(1)),
    "space.nodes": integer(at_least(1)),
    "space.operations": TUPLE,
    "space.reduce_operations": TUPLE,
    "space.cells": integer(at_least(1)),
    "space.stem": integer(at_least(1)),
    "space.stem_stride": integer(STRIDE),
    "space.first": integer(at_least(0)),
    "space.widths": tuple_of(integer(at_least(1))),
    "space.depths": tuple_of(integer(at_least(1))),
    "space.strides": tuple_of(integer(STRIDE)),
    "space.head": integer(at_least(1)),
    "space.candidates": TUPLE,
    "space.depth": integer(at_least(1)),
    "space.width": integer(at_least(1)),
    "space.kernels": tuple_of(integer(at_least(1))),
    "space.expansions": tuple_of(number(at_least(0))),
    "space.width_fractions": tuple_of(number(POSITIVE)),
    "space.resolutions": tuple_of(integer(at_least(1))),
    "retrain.channels": integer(at_least(2)),
    "retrain.layers": integer(at_least(1)),
    "retrain.auxiliary": FLAG,
}
# Fields that some methods have; which ones a method needs is the signature of its function in methods/.
METHOD_FIELDS = {
    "method.order": integer(Limit("1 or 2", lambda value: value in (1, 2))),
    "method.hessian": TEXT,
    "method.weights_learning_rate": number(POSITIVE),
    "method.weights_final_learning_rate": number(at_least(0)),
    "method.momentum": number(BELOW_ONE),
    "method.weight_decay": number(at_least(0)),
    "method.clip": number(POSITIVE),
    "method.logits_learning_rate": number(POSITIVE),
    "method.logits_weight_decay": number(at_least(0)),
    "method.temperature": number(POSITIVE),
    "method.final_temperature": number(POSITIVE),
    "method.bare_gates": FLAG,
    **{f"cost.penalty.{n}": number(FINITE) for n in ("weight", "reference", "exponent", "threshold", "target")},
    **{f"cost.penalty.{n}": number(FINITE) for n in ("alpha", "beta")},
    "cost.penalty.hard": FLAG,
    "method.draw": TEXT,
    "method.credit": TEXT,
    "method.samples": integer(at_least(1)),
    "method.fix_above": number(Limit("above 0 and at most 1", lambda value: 0 < value <= 1)),
    "method.partial": integer(at_least(1)),
    "method.warmup_epochs": integer(at_least(0)),
    "method.stage_layers": tuple_of(integer(at_least(1))),
    "method.stage_channels": tuple_of(integer(at_least(2))),
    "method.stage_operations": tuple_of(integer(at_least(1))),
    "method.stage_dropout": tuple_of(number(BELOW_ONE)),
    "method.skips": integer(at_least(0)),
    "method.gates": TEXT,
    "method.every": integer(at_least(1)),
    "method.distribution_learning_rate": number(POSITIVE),
    "method.sampler": TEXT,
    "method.estimator": TEXT,
    "method.scale": number(POSITIVE),
    "method.single_level": FLAG,
    "method.candidates": integer(at_least(1)),
    "method.finalists": integer(at_least(1)),
    "method.reduction": integer(at_least(2)),
    "method.rungs": integer(at_least(1)),
    "method.dropout": number(BELOW_ONE),
    "method.rounds": integer(at_least(1)),
    "method.population": integer(at_least(1)),
    "method.parents": integer(at_least(1)),
    "method.mutants": integer(at_least(0)),
    "method.crossovers": integer(at_least(0)),
    "method.mutation_rate": number(PROBABILITY),
    "method.crossover_rate": number(PROBABILITY),
    "method.calibrate": integer(at_least(0)),  # 0: every batch is normalised by its own statistics
    "method.splits": integer(at_least(0)),
    "method.split_at": tuple_of(integer(at_least(0))),
    "method.probes": integer(at_least(1)),
    "method.member_epochs": integer(at_least(1)),
    "method.cost_bins": integer(at_least(0)),  # 0: paths are uniform, whatever they cost
    "method.hidden": integer(at_least(1)),
    "method.tanh_constant": number(at_least(0)),  # 0: logits are not bounded
    "method.entropy_weight": number(at_least(0)),
    "method.baseline_decay": number(BELOW_ONE),
    "method.skip_weight": number(at_least(0)),
    "method.skip_target": number(Limit("above 0 and below 1", lambda value: 0 < value < 1)),
    "method.stage_bases": tuple_of(number(POSITIVE)),
    "method.stage_exponents": tuple_of(number(Limit("at most 0 and finite", lambda value: -math.inf < value <= 0))),
    "method.hard": FLAG,
    "method.behaviour": TEXT,
    "method.epsilon": number(Limit("from 0 to 1", lambda value: 0 <= value <= 1)),
    "method.correction": TEXT,
    "method.importance_clip": number(at_least(1)),
    "method.replay": integer(at_least(0)),
    "method.replayed": integer(at_least(0)),
    "method.mode": TEXT,
    "method.cycle_epochs": tuple_of(integer(at_least(1))),
    "method.selection": TEXT,
}


def check_fields(config: Config) -> None:
    """Raises UserError for the first field that is unknown, missing, of another type or outside its limit."""
    values = dict(flat(config))
    known = FIELDS | SPACE_FIELDS | METHOD_FIELDS
    for name in values:
        if name not in known and not name.startswith(("method.", "space.", "cost.penalty.")):
            raise unknown("config field", name, known)
    for name, field in known.items():
        if name in values or name in FIELDS:
            check_field(values, name, field)
