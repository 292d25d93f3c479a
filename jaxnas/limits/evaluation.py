"""The fields of the config of an evaluation: a network, how it is trained, and what is made of it."""

from jaxnas.core.errors import UserError, choose
from jaxnas.limits.kinds import (
    BELOW_ONE,
    FLAG,
    POSITIVE,
    TEXT,
    TUPLE,
    Config,
    Field,
    Limit,
    at_least,
    check_field,
    check_own_fields,
    integer,
    number,
    tuple_of,
)
from jaxnas.limits.search import FIELDS, SPACE_FIELDS
from jaxnas.networks.catalogue import NETWORKS
from jaxnas.networks.families import FAMILIES

PAIR = Field(
    "a pair of texts",
    (tuple, list),
    Limit("two texts", lambda value: len(value) == 2 and all(isinstance(one, str) for one in value)),
)
GROUPS = ("images", "network", "substitute", "teacher", "data", "recipe", "selection", "checkpoint")
EVALUATION_FIELDS = {
    **{name: FIELDS[name] for name in ("seed", "num_seeds", "devices", "synchronize_statistics")},
    **{f"images.{name}": integer(at_least(1)) for name in ("size", "channels", "classes")},
    "substitute.kind": TEXT,
    "substitute.budget": number(POSITIVE),
    "substitute.setting": integer(at_least(0)),
    "substitute.keep": TUPLE,
    "substitute.scale_decay": FLAG,
    "teacher.workdir": TEXT,
    "teacher.taps": tuple_of(PAIR),
    "teacher.attention": number(at_least(0)),
    "teacher.soft": number(Limit("from 0 to 1", lambda value: 0 <= value <= 1)),
    "teacher.temperature": number(POSITIVE),
    **{name: FIELDS[name] for name in ("data.name", "data.path", "data.crop_padding", "data.flip", "data.cutout")},
    "data.streamed": FLAG,
    "data.validation_fraction": number(BELOW_ONE),
    "data.workers": integer(at_least(0)),
    "recipe.epochs": integer(at_least(1)),
    "recipe.batch_size": integer(at_least(1)),
    "recipe.learning_rate": number(POSITIVE),
    "recipe.schedule": TEXT,
    "recipe.decay_epochs": tuple_of(integer(at_least(1))),
    "recipe.decay_factor": number(POSITIVE),
    "recipe.warmup_epochs": integer(at_least(0)),
    "recipe.optimizer": TEXT,
    "recipe.momentum": number(BELOW_ONE),
    "recipe.nesterov": FLAG,
    "recipe.weight_decay": number(at_least(0)),
    "recipe.clip": number(at_least(0)),
    "recipe.drop_path": number(BELOW_ONE),
    "recipe.auxiliary_weight": number(at_least(0)),
    "recipe.label_smoothing": number(BELOW_ONE),
    "recipe.average_decay": number(BELOW_ONE),
    "recipe.accumulate": integer(at_least(1)),
    "recipe.precision": TEXT,
    "recipe.recompute": FLAG,
    "recipe.estimator": TEXT,
    "recipe.population": integer(at_least(1)),
    "recipe.sigma": number(POSITIVE),
    "selection.epochs": integer(at_least(0)),
    "selection.seeds": integer(at_least(1)),
    "selection.validation_fraction": number(Limit("above 0 and below 1", lambda value: 0 < value < 1)),
    "selection.random_baseline": FLAG,
    **{f"checkpoint.{name}": FIELDS[f"checkpoint.{name}"] for name in ("every_steps", "every_seconds", "keep")},
}
# Settings of networks; those of the families of spaces are checked as in searches.
NETWORK_FIELDS = {
    "channels": integer(at_least(2)),
    "layers": integer(at_least(1)),
    "auxiliary": FLAG,
    "stem": TEXT,
    "depth": integer(at_least(1)),
    "depths": tuple_of(integer(at_least(1))),
    "width": integer(at_least(1)),
    "expansion": integer(at_least(1)),
    "gradient": TEXT,
}


def check_evaluation_fields(config: Config) -> None:
    """Raises UserError for the first field that is unknown, missing, of another type or outside its limit.

    A network takes its settings and no others, and a genotype is there if it has architectures.
    """
    check_field({"genotype": "", **config}, "genotype", TEXT)
    check_own_fields({name: value for name, value in config.items() if name != "genotype"}, EVALUATION_FIELDS, GROUPS)
    check_field({f"network.{name}": value for name, value in config.network.items()}, "network.name", TEXT)
    entry = choose("network", config.network.name, NETWORKS)
    given = [name for name in config.network if name != "name"]
    lacking = [name for name in entry.settings if name not in given]
    foreign = [name for name in given if name not in entry.settings]
    if lacking or foreign:
        verb, names = ("needs", lacking) if lacking else ("has no", foreign)
        raise UserError(f"the network {config.network.name!r} {verb} {', '.join(names)}; see configs/evaluate.")
    fields = {name.removeprefix("space."): field for name, field in SPACE_FIELDS.items()}
    if config.network.name not in FAMILIES:
        fields = NETWORK_FIELDS
    for name in given:
        check_field({f"network.{name}": config.network[name]}, f"network.{name}", fields[name])
    if (entry.searchable is None) == ("genotype" in config):
        words = "has no architectures, so that the config has no" if "genotype" in config else "needs the field"
        raise UserError(f"the network {config.network.name!r} {words} genotype.")
