"""The fields of the config of a specialization: a finished search, and what is asked of it."""

from jaxnas.core.errors import UserError, unknown
from jaxnas.limits.kinds import (
    POSITIVE,
    TEXT,
    Config,
    at_least,
    check_field,
    check_own_fields,
    integer,
    number,
)
from jaxnas.limits.search import FIELDS, METHOD_FIELDS

SPECIALIZATION_GROUPS = ("requests", "evolution", "front", "data")
EVOLUTION = ("rounds", "population", "parents", "mutants", "crossovers", "mutation_rate", "finalists")
FRONT = ("rounds", "population", "mutation_rate", "crossover_rate")
SPECIALIZATION_FIELDS = {
    "search": TEXT,
    "predictor": TEXT,
    "seed": FIELDS["seed"],
    **{f"evolution.{name}": METHOD_FIELDS[f"method.{name}"] for name in EVOLUTION},
    "front.points": integer(at_least(0)),  # 0: no fronts
    **{f"front.{name}": METHOD_FIELDS[f"method.{name}"] for name in FRONT},
    "calibration": integer(at_least(1)),
    "repeats": integer(at_least(0)),  # 0: no network is timed
    "data.path": FIELDS["data.path"],
}
REQUEST_FIELDS = {"cost": TEXT, "table": TEXT, "limit": number(POSITIVE)}


def check_specialization_fields(config: Config) -> None:
    """Raises UserError for the first field that is unknown, missing, of another type or outside its limit."""
    check_own_fields(config, SPECIALIZATION_FIELDS, SPECIALIZATION_GROUPS)
    if not config.requests:
        raise UserError("the config has no requests; give requests.LABEL.cost and requests.LABEL.limit for each.")
    for label, request in config.requests.items():
        if not hasattr(request, "items"):
            raise UserError(f"requests.{label} must be a group of fields, not {request!r}.")
        values = {f"requests.{label}.{name}": value for name, value in request.items()}
        fields = {f"requests.{label}.{name}": field for name, field in REQUEST_FIELDS.items()}
        for name in values:
            if name not in fields:
                raise unknown("config field", name, fields)
        for name, field in fields.items():
            check_field(values, name, field)
