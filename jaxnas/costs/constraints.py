"""What architectures of a space can cost, and the most probable one within a limit.

Everything here runs before or after a search and rests on `space.best`, which maximises a sum of scores over the valid
architectures exactly. A cost that is a sum over choices is such a sum; of another, the gradient at an architecture
tells what each option would cost there while all else stays. Limits are compared with the cost as it is computed, in
float32.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.core.errors import UserError
from jaxnas.core.keys import named
from jaxnas.core.types import Architecture, Array, Logits, Space
from jaxnas.costs.terms import ExpectedCost
from jaxnas.spaces.space import encode, random

STARTS = 4  # random architectures that a search for the cheapest starts from
STEPS = 20  # of linearisations that may go round in circles; a cost that is a sum over choices takes one
DOUBLINGS, BISECTIONS = 40, 40
# As in `spaces.space`: an option that is held, that is preferred; what breaks ties is in [0, 1].
HELD, PREFERRED = 4.0, 8.0


class Tools(NamedTuple):
    """The compiled functions of a space and a cost; scores are {part: [choices, options]}, -inf for what is ruled out.

    cost: architecture -> its cost, a scalar.
    value: (architecture, scores) -> the sum that `space.best` maximises, a scalar.
    linear: (architecture, scores, price) -> the best architecture by scores less price · the cost of every option as
        the gradient at the given architecture has it.
    exchange: (architecture, scores, price, limit) -> among the architectures that differ from it in one choice (and in
        what the space then has to repair) and cost at most `limit`, that of the largest value - price · cost; and this.
    """

    cost: Callable[[Architecture], Array]
    value: Callable[[Architecture, Logits], Array]
    linear: Callable[[Architecture, Logits, Array | float], Architecture]
    exchange: Callable[[Architecture, Logits, Array | float, Array | float], tuple[Architecture, Array]]


def attainable(space: Space, cost: ExpectedCost) -> tuple[float, float]:
    """The lowest and the highest cost of an architecture of the space; for how exact they are, see `cheapest`."""
    return _range(space, _tools(space, cost), _nothing_ruled_out(space))


def cheapest(space: Space, cost: ExpectedCost) -> Architecture:
    """The architecture of least cost.

    Exact where every term depends on one choice, and where which option of a choice is the cheapest does not depend on
    the others, as with widths and depths. Otherwise the best of several descents that end where no change of one choice
    lowers the cost.
    """
    return _extreme(space, _tools(space, cost), _nothing_ruled_out(space), 1.0)


def dearest(space: Space, cost: ExpectedCost) -> Architecture:
    """The architecture of highest cost; as exact as `cheapest`."""
    return _extreme(space, _tools(space, cost), _nothing_ruled_out(space), -1.0)


def derive_within(space: Space, cost: ExpectedCost, limit: float, logits: Logits, *, unit: str = "") -> Architecture:
    """The most probable architecture that costs at most `limit`, in a unit that is named for the message only.

    Probable is what `space.decode` maximises, the sum of the chosen options' log-probabilities; what `decode` gives is
    the answer if it is within the limit. Otherwise the cost is priced: the best of log-probability - price · cost, with
    the price found by bisection, is improved by exchanges, always that of one choice which raises the log-probability
    most and stays within the limit. What is guaranteed: the answer is within the limit, no less probable than what any
    price that was tried gives, and no exchange of one choice betters it. For a cost that is a sum over choices, what a
    price gives is optimal at its own cost, so that the answer falls short only where the limit lies between two such.
    Options of probability 0 are not taken. Raises UserError with the attainable costs if the limit is below them.
    """
    tools = _tools(space, cost)
    masked = {part: jnp.where(space.allowed[part], logits[part], -jnp.inf) for part in space.shapes}
    scores = {part: jax.nn.log_softmax(values) for part, values in masked.items()}
    first = space.decode(logits)
    if tools.cost(first) <= limit:
        return first
    possible = {part: jnp.where(jnp.isneginf(values), -jnp.inf, 0.0) for part, values in scores.items()}
    least = _extreme(space, tools, possible, 1.0)
    if not tools.cost(least) <= limit:
        low, high = _range(space, tools, possible)
        words = f"{_figure(limit)} {unit}".strip()
        raise UserError(
            f"cost.limit is {words}, but architectures of this space have {_figure(low)} to {_figure(high)}."
        )
    found = _by_price(tools, scores, limit, least, first)
    return _climb(tools, found, scores, 0.0, limit)


def _by_price(tools: Tools, scores: Logits, limit: float, least: Architecture, first: Architecture) -> Architecture:
    """The most probable architecture within the limit that any price gives; `least` is within it, `first` is not."""
    unit = 1.0 / float(tools.cost(first) - tools.cost(least))
    best, value = least, float(tools.value(least, scores))

    def within(price: float) -> bool:
        """Whether this price is high enough; notes what it leads to."""
        nonlocal best, value
        enough = False
        for step in _linearised(tools, least, scores, price * unit):
            enough = bool(tools.cost(step) <= limit)
            if enough and float(tools.value(step, scores)) > value:
                best, value = step, float(tools.value(step, scores))
        return enough

    low, high = 0.0, 1.0
    for _ in range(DOUBLINGS):
        if within(high):
            break
        low, high = high, 2.0 * high
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (low, middle) if within(middle) else (middle, high)
    return best


def _extreme(space: Space, tools: Tools, scores: Logits, sign: float) -> Architecture:
    """The cheapest architecture (sign 1) or the dearest (-1); scores are 0, or -inf for what is ruled out."""
    best, value = None, -np.inf
    for number in range(STARTS):
        start = random(space, named(jax.random.key(number), "start"))
        steps = list(_linearised(tools, start, scores, sign))
        nearest = min(steps, key=lambda step: sign * float(tools.cost(step)))
        found = _climb(tools, nearest, scores, sign, np.inf)
        if best is None or -sign * float(tools.cost(found)) > value:
            best, value = found, -sign * float(tools.cost(found))
    assert best is not None
    return best


def _range(space: Space, tools: Tools, scores: Logits) -> tuple[float, float]:
    low, high = (float(tools.cost(_extreme(space, tools, scores, sign))) for sign in (1.0, -1.0))
    return low, high


def _linearised(tools: Tools, start: Architecture, scores: Logits, price: float) -> Iterator[Architecture]:
    """What becomes of an architecture when the linear problem at it is solved again and again, until it stays."""
    current = start
    for _ in range(STEPS):
        following = tools.linear(current, scores, price)
        yield following
        if all(np.array_equal(following[part], current[part]) for part in current):
            return
        current = following


def _climb(tools: Tools, start: Architecture, scores: Logits, price: float, limit: float) -> Architecture:
    """Makes the best exchange of one choice as long as it raises value - price · cost."""
    current, value = start, float(tools.value(start, scores) - price * tools.cost(start))
    while True:
        following, reached = tools.exchange(current, scores, price, limit)
        if not float(reached) > value:
            return current
        current, value = following, float(reached)


def _tools(space: Space, cost: ExpectedCost) -> Tools:
    scored = scored_options(space)

    def architecture_cost(architecture: Architecture) -> Array:
        return cost(encode(space, architecture))

    def value(architecture: Architecture, scores: Logits) -> Array:
        gates = encode(space, architecture)
        taken = [jnp.where((gates[part] > 0) & scored[part], scores[part], 0.0) for part in space.shapes]
        return jnp.sum(jnp.stack([jnp.sum(part) for part in taken]))

    def linear(architecture: Architecture, scores: Logits, price: Array | float) -> Architecture:
        gradient = jax.grad(cost)(encode(space, architecture))
        total = {}
        for part, values in gradient.items():
            # What stands for "nothing here" scores 0, so that the others cost what they cost beyond it.
            nothing = space.allowed[part] & ~scored[part]
            beyond = values - jnp.sum(jnp.where(nothing, values, 0.0), axis=-1, keepdims=True)
            total[part] = scores[part] - price * beyond
        return space.best(total)

    def exchange(
        architecture: Architecture, scores: Logits, price: Array | float, limit: Array | float
    ) -> tuple[Architecture, Array]:
        held = {part: jnp.exp(scores[part]) + HELD * gates for part, gates in encode(space, architecture).items()}

        def reached(numbers: Array) -> tuple[Architecture, Array]:
            found = space.best({part: held[part] + PREFERRED * at for part, at in _one_option(space, numbers).items()})
            spent = architecture_cost(found)
            return found, jnp.where(spent <= limit, value(found, scores) - price * spent, -jnp.inf)

        found, values = jax.lax.map(reached, jnp.arange(_option_count(space)), batch_size=256)
        best = jnp.argmax(values)
        return jax.tree.map(lambda each: each[best], found), values[best]

    return Tools(jax.jit(architecture_cost), jax.jit(value), jax.jit(linear), jax.jit(exchange))


def scored_options(space: Space) -> dict[str, np.ndarray]:
    """Which options' scores `space.best` looks at, bool {part: [choices, options]}.

    Not those that a choice does not have, and not those that stand for "nothing here": whether an edge of a cell is
    kept is a matter of the other options' scores. An option counts if it is taken with the highest score of all and not
    taken with the lowest; so the only option of a choice does not, whose score cannot matter.
    """

    def taken(number: Array, sign: float) -> Architecture:
        chosen = space.best({part: sign * at for part, at in _one_option(space, number).items()})
        return {part: gates.astype(bool) for part, gates in encode(space, chosen).items()}

    def counts(number: Array) -> dict[str, Array]:
        at, most, least = _one_option(space, number), taken(number, 1.0), taken(number, -1.0)
        return {part: (at[part] > 0) & most[part] & ~least[part] for part in space.shapes}

    found = jax.jit(lambda: jax.lax.map(counts, jnp.arange(_option_count(space)), batch_size=256))()
    return {part: np.any(np.asarray(rows), axis=0) for part, rows in found.items()}


def _option_count(space: Space) -> int:
    return sum(rows * options for rows, options in space.shapes.values())


def _one_option(space: Space, number: Array) -> dict[str, Array]:
    """The option of this number, counted through all parts: float32 {part: [choices, options]}, 1 there and 0 else."""
    flat, start = {}, 0
    for part, shape in space.shapes.items():
        flat[part] = jax.nn.one_hot(number - start, shape[0] * shape[1]).reshape(shape)
        start += shape[0] * shape[1]
    return flat


def _nothing_ruled_out(space: Space) -> dict[str, Array]:
    return {part: jax.device_put(np.zeros(shape, np.float32)) for part, shape in space.shapes.items()}


def _figure(cost: float) -> str:
    """A cost for people: thousands in groups, four digits where there is a fraction."""
    return f"{cost:,.0f}" if cost >= 1000 or cost == round(cost) else f"{cost:.4g}"
