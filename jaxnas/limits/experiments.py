"""The fields of the configs of lab experiments, comparisons and searches in tables."""

from jaxnas.core.errors import UserError
from jaxnas.limits.kinds import (
    BELOW_ONE,
    FLAG,
    NOT_ABOVE_ZERO,
    POSITIVE,
    PROBABILITY,
    TEXT,
    TUPLE,
    Config,
    at_least,
    between,
    check_field,
    check_own_fields,
    flat,
    integer,
    number,
)
from jaxnas.limits.search import FIELDS, SPACE_FIELDS

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
    "ranking.architectures": integer(at_least(0)),
    "ranking.images": integer(at_least(0)),  # 0: all of the validation half
}
# The config of searches in a table; the settings of a strategy are the signature of its function in strategies/.
TABULAR_GROUPS = ("space", "images", "table", "cost", "strategies")
TABULAR_FIELDS = {
    "question": TEXT,
    "seed": FIELDS["seed"],
    "repetitions": integer(between(1, 1_000_000)),
    "evaluations": integer(between(1, 10_000_000)),
    **{f"images.{name}": integer(at_least(1)) for name in ("size", "channels", "classes")},
    **{name: FIELDS[name] for name in ("table.path", "table.metric", "table.scale")},
    "table.trainings": TUPLE,
    "table.noise": number(between(0, 1_000_000)),
    "table.missing": TEXT,
    "cost.name": TEXT,
    "cost.column": TEXT,
    "cost.limit": FIELDS["cost.limit"],
    "cost.target": number(at_least(0)),  # 0: the reward is the accuracy
    "cost.exponent": number(NOT_ABOVE_ZERO),
    "cost.hard": FLAG,
}
SYNTHETIC_FIELDS = {
    "space.choices": integer(between(2, 100)),
    "space.options": integer(between(2, 1_000_000)),
    "space.interactions": number(between(0, 1_000_000)),
    "space.seed": integer(at_least(0)),
}
STRATEGY_FIELDS = {
    **{name: integer(between(1, 100_000)) for name in ("batch", "candidates", "population", "parents", "sample")},
    "samples": integer(between(1, 100_000)),
    **{name: integer(between(0, 100_000)) for name in ("mutants", "crossovers", "replay", "replayed", "perturbations")},
    "rungs": integer(at_least(1)),
    **{name: integer(at_least(1)) for name in ("updates", "hidden")},
    "reduction": integer(at_least(2)),
    **{name: number(POSITIVE) for name in ("learning_rate", "temperature", "clip_ratio")},
    **{name: number(at_least(0)) for name in ("entropy_weight", "tanh_constant", "gradient_clip", "clip")},
    **{name: number(PROBABILITY) for name in ("mutation_rate", "crossover_rate", "epsilon")},
    "baseline_decay": number(BELOW_ONE),
    **dict.fromkeys(("name", "behaviour", "correction", "selection"), TEXT),
}


def check_lab_fields(config: Config) -> None:
    """The same for the config of a lab experiment, without its settings, which are the experiment's to check."""
    check_own_fields(config, LAB_FIELDS, LAB_GROUPS)


def check_comparison_fields(config: Config) -> None:
    """The same for the config of a comparison, without its searches, which are checked as every search is."""
    check_own_fields(config, COMPARISON_FIELDS, COMPARISON_GROUPS)


def check_tabular_fields(config: Config) -> None:
    """The same for the config of searches in a table; which of them a space or a strategy takes is checked later."""
    check_own_fields(config, TABULAR_FIELDS, TABULAR_GROUPS)
    space = {f"space.{name}": value for name, value in config.space.items()}
    known = FIELDS | SPACE_FIELDS | SYNTHETIC_FIELDS
    for name in {"space.name": None} | space:
        if name in known:
            check_field(space, name, known[name])
    for label, entry in config.strategies.items():
        if not hasattr(entry, "items") or "name" not in entry:
            raise UserError(f"strategies.{label} lacks the field 'name', a text.")
        values = {f"strategies.{label}.{name}": value for name, value in flat(entry)}
        for name in values:
            field = STRATEGY_FIELDS.get(name.rpartition(".")[2])
            if field is not None:
                check_field(values, name, field)
