"""How large a substitute may be made within a budget of parameters."""

import functools
from math import floor

from scipy.optimize import root_scalar

from jaxnas.core.errors import UserError, choose
from jaxnas.layers.substitutes.kinds import Dense, Substitute
from jaxnas.layers.substitutes.table import KINDS


def within_budget(kind: str, dense: Dense, budget: int) -> tuple[int, Substitute]:
    """The largest substitute of a kind that learns at most `budget` numbers, and what its parameter is set to.

    Raises UserError for an unknown kind, a layer that the kind cannot replace, and a budget that is below the least
    that it can do, naming that.
    """
    chosen = choose("substitute", kind, KINDS)
    build = functools.cache(functools.partial(chosen.build, dense))
    ends = chosen.bounds(dense)
    smallest, largest = sorted(ends, key=lambda number: build(number).params)
    if build(smallest).params > budget:
        raise UserError(
            f"the budget of a {dense.text} is {budget} parameters, but the substitute {kind!r} needs at least "
            f"{build(smallest).params}."
        )
    if build(largest).params <= budget:
        return largest, build(largest)

    def excess(number: float) -> float:
        return build(floor(number)).params - budget - 0.5  # parameters are whole: it jumps over zero, at a whole number

    beyond = round(root_scalar(excess, bracket=ends, method="bisect", xtol=0.25).root)
    number = beyond - 1 if smallest < largest else beyond
    return number, build(number)
