"""The group `config.cost` made into what a search counts: a cost, how it enters the loss, and the most it may be."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from jaxnas.core.errors import UserError, choose
from jaxnas.costs.constraints import attainable
from jaxnas.costs.latency import latency_cost, read_latency_table
from jaxnas.costs.penalties import PENALTIES, Penalty, check_logarithm, reward_power
from jaxnas.costs.terms import COUNTED, ExpectedCost
from jaxnas.limits import Config
from jaxnas.methods import REWARDED, UNPRICED
from jaxnas.networks.family import Family, Images

TARGET = "threshold"  # the setting of penalties that an architecture is meant to meet


class Price(NamedTuple):
    """What architectures cost: gates -> expected cost in `unit`, the penalty of a loss, and the most a result may cost.

    low, high: what architectures of the space can cost. limit: 0 for none.
    """

    cost: ExpectedCost
    unit: str
    penalty: Penalty
    low: float
    high: float
    limit: float


def read_price(config: Config, family: Family, images: Images) -> Price | None:
    """The cost that the search counts, None for none.

    Raises UserError for a wrong cost, table or penalty, for settings without effect, and for a limit or a target that
    no architecture of the space meets.
    """
    if config.cost.name == "latency" and not config.cost.table:
        raise UserError("cost.name is 'latency', which needs cost.table, a file as launch/latency.py writes it.")
    cost, unit = named_cost(config.cost.name, config.cost.table, family, images)
    penalty = _penalty(config)
    ignored = {
        "cost.limit": cost is None and config.cost.limit,
        "cost.table": config.cost.name != "latency" and config.cost.table,
    }
    for name, given in ignored.items():
        if given:
            raise UserError(f"{name} is {given!r}, which has no effect with cost.name {config.cost.name!r}.")
    if cost is None:
        return None
    if config.method.name in UNPRICED and not config.cost.limit:
        raise UserError(
            f"the method {config.method.name!r} has no loss of the architecture that a cost could enter; "
            "give cost.limit, or set cost.name to 'none'."
        )
    low, high = attainable(family.space, cost)
    _check_targets(config, low, high, unit)
    return Price(cost, unit, penalty, low, high, config.cost.limit)


def named_cost(name: str, table: str, family: Family, images: Images) -> tuple[ExpectedCost | None, str]:
    """gates -> the expected cost, None for the cost "none", and its unit; table: the file of latencies, if they count.

    Raises UserError for an unknown name, and for a table that cannot be read or is of another family or size.
    """
    costs: Mapping[str, Callable[[], tuple[ExpectedCost | None, str]]] = {
        "none": lambda: (None, ""),
        **{name: functools.partial(_counted, family, images, *row) for name, row in COUNTED.items()},
        "latency": lambda: (latency_cost(family, images, read_latency_table(table)), "ms"),
    }
    return choose("cost", name, costs)()


def _counted(
    family: Family, images: Images, build: Callable[[Family, Images], ExpectedCost], unit: str
) -> tuple[ExpectedCost, str]:
    return build(family, images), unit


def _penalty(config: Config) -> Penalty:
    """The penalty with its settings; raises UserError where it does not fit the method, and for another's settings."""
    build, method = choose("penalty", config.cost.penalty.name, PENALTIES), config.method.name
    if build is reward_power and method not in REWARDED:
        raise UserError(
            f"the penalty 'reward_power' is for rewards, and the method {method!r} minimises a loss; take 'power'."
        )
    if build is not reward_power and method in REWARDED and config.cost.name != "none":
        raise UserError(
            f"the penalty {config.cost.penalty.name!r} is for losses, and the method {method!r} maximises a reward; "
            "take 'reward_power'."
        )
    settings = {name: value for name, value in config.cost.penalty.items() if name != "name"}
    wanted = list(inspect.signature(build).parameters)
    if sorted(settings) != sorted(wanted):
        raise UserError(
            f"the penalty {config.cost.penalty.name!r} takes {', '.join(wanted)}, but the config gives "
            f"{', '.join(settings) or 'nothing'}; a config file has to set the whole group, as fbnet_cifar10.py does."
        )
    return build(**settings)


def check_reach(name: str, target: float, low: float, high: float, unit: str) -> None:
    """Raises UserError for a target, the value of a field, that costs from low to high do not get down to."""
    if target < low:
        raise UserError(
            f"{name} is {target:,g} {unit}, which no architecture meets: those of this space have {low:,.6g} to "
            f"{high:,.6g}."
        )


def _check_targets(config: Config, low: float, high: float, unit: str) -> None:
    """Raises UserError for what costs from low to high cannot meet, and for penalties that these have no value of."""
    targets: dict[str, Any] = {
        "cost.limit": config.cost.limit,
        f"cost.penalty.{TARGET}": config.cost.penalty.get(TARGET, 0),
    }
    for name, target in targets.items():
        if target > 0:
            check_reach(name, target, low, high, unit)
    if config.cost.penalty.name == "log_power":
        check_logarithm(low, unit)
    penalty = config.cost.penalty
    if low <= 0 and (penalty.name == "power" or (penalty.name == "reward_power" and not penalty.hard)):
        remedy = "take 'linear'" if penalty.name == "power" else "set cost.penalty.hard to True"
        raise UserError(
            f"the penalty {penalty.name!r} needs costs above 0, but architectures of this space cost as little as "
            f"{low:.3g} {unit}; {remedy}."
        )
