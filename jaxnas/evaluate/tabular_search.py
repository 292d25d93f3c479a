"""Searches against a table of true accuracies: thousands of repetitions of a strategy as one compiled program.

An evaluation is a lookup, so that what is compared is how strategies propose, not how well they train. The budget is
counted in whole evaluations: a proposal of fidelity 1/4 spends a quarter, and an architecture asked for again spends
again.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import entr

from jaxnas.core.errors import UserError, choose
from jaxnas.core.keys import at_step, named
from jaxnas.core.threads import cores, in_order
from jaxnas.core.types import Architecture, Array, Gates, Key, PyTree, Space
from jaxnas.evaluate.tabular import Table, column
from jaxnas.strategies.strategy import Outcome, Problem, Proposal, Strategy

LARGEST = 2**24  # combinations of options that a table on the device may have
PRICED_AT_ONCE = 4096  # architectures
REPETITIONS_AT_ONCE = 128
ROUNDING = 1e-5  # by which sums of fidelities may exceed a budget
# What an architecture that the table does not list answers.
MISSING: Mapping[str, Callable[[np.ndarray], float]] = {"error": lambda known: np.nan, "worst": np.min}


class Answers(NamedTuple):
    """What evaluations answer, indexed by `index_of` an architecture; NaN where the table does not list it.

    true: float32 [combinations], the true accuracy. trainings: float32 [trainings, combinations]; an evaluation answers
    with one of these at random. noise: the standard deviation of what is added at half of a whole evaluation; at
    fidelity f it is noise · √(1/f - 1), nothing at 1: a simulation of short trainings, not a measurement.
    """

    space: Space
    true: Array
    trainings: Array
    noise: float = 0.0


class Judged(NamedTuple):
    """All combinations of options as a problem sees them: what a search looks up, float32 [..., combinations].

    true, trainings: as in `Answers`. costs: what architectures cost, whether listed or not. rewards: the true reward,
    NaN for what is not listed, is beyond the problem's limit or has an option that it does not allow.
    """

    true: Array
    trainings: Array
    costs: Array
    rewards: Array


class Curves(NamedTuple):
    """What every repetition did round by round: arrays [repetitions, rounds] of NumPy.

    The best so far is that of the highest reward observed, among what was evaluated at the highest fidelity so far;
    what the limit or the table excludes does not count. Before there is one, its values are NaN.

    spent: whole evaluations up to the end of a round. accuracy: true accuracy of the best so far. regret: the largest
    true reward of the table less that of the best so far. derived: true accuracy of what the strategy would derive, NaN
    beyond the limit. reward: mean observed reward of the proposals. entropy: of the strategy's probabilities, nats
    summed over choices. metrics: those of the strategy.
    found, final: the best and the derived architecture at the end, int32 {part: [repetitions, choices]}.
    proposals: how many architectures were evaluated in all. compile, seconds: of compiling and of running.
    """

    spent: np.ndarray
    accuracy: np.ndarray
    regret: np.ndarray
    derived: np.ndarray
    reward: np.ndarray
    entropy: np.ndarray
    metrics: Mapping[str, np.ndarray]
    found: Mapping[str, np.ndarray]
    final: Mapping[str, np.ndarray]
    proposals: int
    compile: float
    seconds: float


class _Best(NamedTuple):
    """The best so far of one repetition: its `index_of` (-1 before there is one), observed reward and fidelity."""

    number: Array
    reward: Array
    fidelity: Array


def index_of(space: Space, architecture: Architecture) -> Array:
    """The number of an architecture among all combinations of options, int32; the last choice counts fastest."""
    index = jnp.zeros((), jnp.int32)
    for part, (choices, options) in space.shapes.items():
        for choice in range(choices):
            index = index * options + architecture[part][choice]
    return index


def architecture_at(space: Space, index: Array) -> Architecture:
    """The inverse of `index_of`."""
    numbers = {}
    for part, (choices, options) in reversed(list(space.shapes.items())):
        weights = np.array([options**power for power in reversed(range(choices))], np.int32)
        numbers[part] = (index // weights) % options
        index = index // options**choices
    return {part: numbers[part] for part in space.shapes}


def answers(
    table: Table,
    metric: str,
    scale: float = 1.0,
    *,
    trainings: Sequence[str] = (),
    noise: float = 0.0,
    missing: str = "error",
) -> Answers:
    """The answers of a table: true accuracies are a metric times `scale`.

    trainings: the metrics of single trainings that evaluations answer with; () for the true accuracy itself.
    missing: "error", for architectures that are not listed to be a mistake that `tabular_search` reports, or "worst",
    for them to answer the lowest that is listed.
    Raises UserError for an unknown metric, a negative noise, and a space that `dense` does not take.
    """
    if not noise >= 0:
        raise UserError(f"the noise of a table's answers is {noise}, but has to be at least 0.")
    fill = choose("way to answer for missing architectures", missing, MISSING)
    known = np.stack([column(table, name, scale) for name in (metric, *(trainings or (metric,)))])
    filled = jnp.asarray(dense(table, known, fill(known)))
    return Answers(table.space, filled[0], filled[1:], float(noise))


def dense(table: Table, values: np.ndarray, otherwise: float = np.nan) -> np.ndarray:
    """Values [..., architectures] of a table's rows as float32 [..., combinations], `otherwise` for those not listed.

    Raises UserError for a space that is no product of its options, or has more than LARGEST combinations.
    """
    space = table.space
    if space.size != prod(int(row.sum()) for rows in space.allowed.values() for row in rows):
        raise UserError(
            f"tables are searched in spaces in which every combination of options is an architecture, such as "
            f"'nas_bench_macro' and 'nas_bench_201'; {space.name!r} is none."
        )
    combinations = prod(options**choices for choices, options in space.shapes.values())
    if combinations > LARGEST:
        raise UserError(
            f"the space {space.name!r} has {combinations:,} combinations of options, but a table that is searched can "
            f"have at most {LARGEST:,}; give it fewer layers or candidates."
        )
    parsed = [space.parse(text) for text in table.rows]
    stacked = {part: jnp.asarray(np.stack([one[part] for one in parsed], axis=-1)) for part in space.shapes}
    filled = np.full((*values.shape[:-1], combinations), otherwise, np.float32)
    filled[..., np.asarray(index_of(space, stacked))] = values[..., list(table.rows.values())]
    return filled


def column_cost(table: Table, metric: str) -> Callable[[Gates], Array]:
    """A metric of the table as the cost of one-hot gates, the highest that is listed for what it does not list.

    The cost is looked up, so that its derivative is 0. Raises as `dense` does, and for an unknown metric.
    """
    known = column(table, metric)
    values = jnp.asarray(dense(table, known, known.max()))
    space = table.space
    return lambda gates: values[index_of(space, {part: jnp.argmax(gates[part], axis=-1) for part in space.shapes})]


def judge(problem: Problem, answers: Answers) -> Judged:
    """Prices and rewards all combinations.

    Raises UserError where the limit excludes all that the table lists, and for a reward that is not finite.
    """

    def of_one(index: Array) -> tuple[Array, Array]:
        architecture = architecture_at(problem.space, index)
        cost = problem.price(architecture)
        possible = [jnp.ones((), bool) if problem.limit <= 0 else cost <= problem.limit]
        for part, mask in (problem.allowed or {}).items():
            possible.append(jnp.all(jnp.take_along_axis(jnp.asarray(mask), architecture[part][:, None], axis=1)))
        return cost, jnp.all(jnp.stack(possible))

    indices = jnp.arange(len(answers.true))
    costs, possible = jax.jit(lambda: jax.lax.map(of_one, indices, batch_size=PRICED_AT_ONCE))()
    rewards = jnp.where(possible, problem.reward(answers.true, costs), jnp.nan)
    listed = np.isfinite(answers.true)
    bad = listed & np.asarray(possible) & ~np.isfinite(rewards)
    if bad.any():
        text = problem.space.canonical(architecture_at(problem.space, jnp.asarray(bad.argmax())))
        raise UserError(
            f"the reward of {text!r} is {float(rewards[bad.argmax()])}; change cost.target or cost.exponent, or set "
            "cost.hard where something costs nothing."
        )
    if not np.any(listed & np.asarray(possible)):
        known = np.asarray(costs)[listed]
        raise UserError(
            f"cost.limit is {problem.limit:,g}, which no architecture of the table meets: those listed cost "
            f"{known.min():,g} to {known.max():,g}."
        )
    return Judged(answers.true, answers.trainings, costs, rewards)


def tabular_search(
    strategy: Strategy, problem: Problem, answers: Answers, *, evaluations: int, key: Key, repetitions: int
) -> Curves:
    """Runs a strategy as often as asked for, within a budget of whole evaluations each, by one compiled program.

    Repetition r depends on the key and on r alone. There are as many rounds as fit into the budget; where fidelities
    are below 1, as many as fit in a rehearsal. Raises UserError for a budget below that of the first round, a limit
    that excludes the whole table, and a proposed architecture that the table does not list.
    """
    judged = judge(problem, answers)
    rounds = rounds_within(strategy, problem, judged, evaluations)

    @jax.jit
    def run(keys: Array, judged: Judged) -> Any:
        return jax.vmap(lambda key: search_once(strategy, problem, judged, answers.noise, rounds, key))(keys)

    parts = _parts(key, repetitions)
    begin = time.perf_counter()
    program = run.lower(parts[0], judged).compile()
    compiled = time.perf_counter()
    done = list(in_order(lambda keys: jax.tree.map(np.asarray, program(keys, judged)), parts, cores()))
    seconds = time.perf_counter() - compiled
    records, ends, lost = jax.tree.map(lambda *arrays: np.concatenate(arrays)[:repetitions], *done)
    if np.any(lost >= 0):
        text = problem.space.canonical(architecture_at(problem.space, lost[np.argmax(lost >= 0)]))
        listed = int(np.isfinite(answers.true).sum())
        raise UserError(
            f"the table does not list the architecture {text!r}, which the search proposed; it has {listed:,} of the "
            f"{problem.space.size:,} architectures of {problem.space.name!r}; complete it, or set missing to 'worst'."
        )
    proposals = repetitions * rounds * strategy.batch
    return Curves(**records, **ends, proposals=proposals, compile=compiled - begin, seconds=seconds)


def _parts(key: Key, repetitions: int) -> list[Array]:
    """The keys of all repetitions in parts of equal size, filled up at the end; what runs together on one core.

    On the CPU a part is so small that its states stay in the cache, elsewhere there is one. Sizes do not depend on the
    number of cores, so that neither do the results.
    """
    most = REPETITIONS_AT_ONCE if jax.default_backend() == "cpu" else repetitions
    count = -(-repetitions // most)
    size = -(-repetitions // count)
    keys = jax.vmap(lambda number: at_step(key, "repetition", number))(jnp.arange(count * size))
    return [keys[start : start + size] for start in range(0, count * size, size)]


def rounds_within(strategy: Strategy, problem: Problem, judged: Judged, evaluations: int) -> int:
    """How many rounds of a strategy spend at most so many whole evaluations; raises UserError where not even one does.

    A strategy whose first proposals are whole evaluations is taken to go on so; any other is rehearsed.
    """
    key = jax.random.key(0)
    first = np.asarray(jax.jit(lambda: strategy.ask(key, strategy.init(key)).fidelity)(), np.float64)
    if first.sum() > evaluations:
        raise UserError(f"evaluations is {evaluations}, but the first round of the search takes {first.sum():g}.")
    if np.all(first == 1):
        return evaluations // strategy.batch
    most = evaluations * (1 + ROUNDING)

    def once(carry: tuple[PyTree, Array, Array]) -> tuple[PyTree, Array, Array]:
        state, spent, rounds = carry
        proposal, _, _, state = _round(strategy, problem, judged, 0.0, key, rounds, state)
        return state, spent + jnp.sum(proposal.fidelity), rounds + 1

    start = strategy.init(key), jnp.zeros(()), jnp.zeros((), jnp.int32)
    rounds = jax.jit(lambda: jax.lax.while_loop(lambda carry: carry[1] <= most, once, start)[2])()
    return int(rounds) - 1  # the last of them exceeds the budget


def search_once(
    strategy: Strategy, problem: Problem, judged: Judged, noise: float, rounds: int, key: Key
) -> tuple[dict[str, Any], dict[str, Architecture], Array]:
    """One repetition: its records, each [rounds], by the names of `Curves`; the architectures at its end; what it lost.

    The last is the `index_of` the first proposed architecture that the table does not list, -1 where there is none.
    """
    highest = jnp.nanmax(judged.rewards)

    def step(carry: tuple[PyTree, _Best, Array, Array], number: Array) -> tuple[Any, dict[str, Any]]:
        state, best, spent, lost = carry
        proposal, indices, outcome, state = _round(strategy, problem, judged, noise, key, number, state)
        best = _best_of(best, judged, proposal, indices, outcome)
        spent = spent + jnp.sum(proposal.fidelity)
        unknown = jnp.isnan(judged.true[indices])
        lost = jnp.where((lost < 0) & jnp.any(unknown), indices[jnp.argmax(unknown)], lost)
        derived = index_of(problem.space, strategy.best(state))
        none = best.number < 0
        record = {
            "spent": spent,
            "accuracy": jnp.where(none, jnp.nan, judged.true[best.number]),
            "regret": jnp.where(none, jnp.nan, highest - judged.rewards[best.number]),
            "derived": jnp.where(jnp.isnan(judged.rewards[derived]), jnp.nan, judged.true[derived]),
            "reward": jnp.mean(outcome.reward),
            "entropy": sum(jnp.sum(entr(values)) for values in strategy.probabilities(state).values()),
            "metrics": dict(strategy.metrics(state)),
        }
        return (state, best, spent, lost), record

    nothing = _Best(jnp.full((), -1, jnp.int32), jnp.full((), -jnp.inf), jnp.zeros(()))
    start = strategy.init(named(key, "init")), nothing, jnp.zeros(()), jnp.full((), -1, jnp.int32)
    (state, best, _, lost), records = jax.lax.scan(step, start, jnp.arange(rounds))
    found = architecture_at(problem.space, jnp.maximum(best.number, 0))
    return records, {"found": found, "final": strategy.best(state)}, lost


def _round(
    strategy: Strategy, problem: Problem, judged: Judged, noise: float, key: Key, number: Array, state: PyTree
) -> tuple[Proposal, Array, Outcome, PyTree]:
    """One round of ask, answer and tell: what was proposed, the `index_of` each, how they did, and the new state."""
    proposal = strategy.ask(at_step(key, "ask", number), state)
    indices = jax.vmap(lambda one: index_of(problem.space, one))(proposal.architectures)
    accuracies = _observed(at_step(key, "answer", number), judged, noise, indices, proposal.fidelity)
    costs = judged.costs[indices]
    outcome = Outcome(problem.reward(accuracies, costs), accuracies, costs)
    return proposal, indices, outcome, strategy.tell(at_step(key, "tell", number), state, proposal, outcome)


def _observed(key: Key, judged: Judged, noise: float, indices: Array, fidelity: Array) -> Array:
    """The accuracies [batch] that evaluations of this fidelity [batch] show."""
    count = len(judged.trainings)
    if count > 1:
        accuracies = judged.trainings[jax.random.randint(named(key, "training"), indices.shape, 0, count), indices]
    else:
        accuracies = judged.trainings[0, indices]
    if not noise:
        return accuracies
    deviations = noise * jnp.sqrt(jnp.maximum(1 / fidelity - 1, 0.0))
    return accuracies + deviations * jax.random.normal(named(key, "noise"), indices.shape)


def _best_of(best: _Best, judged: Judged, proposal: Proposal, indices: Array, outcome: Outcome) -> _Best:
    """The best so far after a round: of those that count, the highest fidelity, and among equals the highest reward."""
    counts = jnp.isfinite(judged.rewards[indices]) & jnp.isfinite(outcome.reward)
    fidelity = jnp.max(jnp.where(counts, proposal.fidelity, -1.0))
    rewards = jnp.where(counts & (proposal.fidelity == fidelity), outcome.reward, -jnp.inf)
    first = jnp.argmax(rewards)
    new = _Best(indices[first], rewards[first], fidelity)
    wins = (fidelity > best.fidelity) | ((fidelity == best.fidelity) & (new.reward > best.reward))
    return jax.tree.map(lambda new, old: jnp.where(wins, new, old), new, best)
