"""Searches in two stages: sampled paths train shared weights, which then stay as they are and judge architectures.

The first stage is an update of the weights. The second is a strategy (see `strategies.strategy`), one round of which is
one epoch: it proposes architectures, each is judged on the validation half with the shared weights, and it is told how
they did. Where a search has a cost, the reward is what its penalty makes of the error and the cost, and with a limit
whatever is proposed is within it.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxnas.core.errors import UserError
from jaxnas.core.keys import named
from jaxnas.core.types import Architecture, Array, Averaged, Key, Network, Params, PyTree, Space
from jaxnas.costs.constraints import attainable
from jaxnas.methods.method import Judge, Method, Setup, Stage, Weights, relaxation
from jaxnas.search.fair import learn_fairly, untrained
from jaxnas.search.objectives import SearchState, classification
from jaxnas.search.paths import cost_uniform_paths, dropped_paths, uniform_paths
from jaxnas.search.updates import Update, alternating, learn_weights
from jaxnas.spaces.space import encode
from jaxnas.strategies.evolution import evolution
from jaxnas.strategies.halving import successive_halving
from jaxnas.strategies.pareto import nsga2
from jaxnas.strategies.random_search import random_search
from jaxnas.strategies.seen import Seen, look_up, nothing_seen, remember
from jaxnas.strategies.strategy import Outcome, Problem, Proposal, Strategy, outcome_of

TRIES = 256  # architectures drawn in a step, to find one of a certain cost
ROUND = 50  # the most architectures that a random search judges between two epochs' ends


class Evolution(NamedTuple):
    """How evolution decides: in so many rounds, with the settings of `strategies.evolution`."""

    rounds: int
    population: int
    parents: int
    mutants: int
    crossovers: int
    mutation_rate: float

    def strategy(self, problem: Problem) -> Strategy:
        """The evolution of a problem."""
        settings = self._asdict()
        del settings["rounds"]
        return evolution(problem, **settings)


def random_nas(setup: Setup, weights: Weights, *, candidates: int, finalists: int, calibrate: int) -> tuple[Stage, ...]:
    """Random search with weight sharing (Li & Talwalkar 2019): one uniform architecture trains in every step.

    candidates: random architectures, each judged on its share of the validation batches, finalists / candidates of
        them, rounded up. finalists: the best of them, judged on all; the best of these is derived. calibrate: see
        `spos`. Both halves of the search cost the same. Raises UserError unless finalists divide the candidates.
    """
    if candidates % finalists:
        nearest = max(1, round(candidates / finalists)) * finalists
        raise UserError(
            f"method.candidates is {candidates}, which {finalists} finalists do not divide; the nearest number that "
            f"they do is {nearest}."
        )
    strategy = successive_halving(
        problem_of(setup),
        candidates=candidates,
        reduction=max(candidates // finalists, 2),
        rungs=2 if candidates > finalists else 1,
    )
    rounds = candidates // strategy.batch + (candidates > finalists)
    return supernet_stage(setup, weights), decision_stage(setup, strategy, rounds, calibrate)


def one_shot(setup: Setup, weights: Weights, *, dropout: float, candidates: int, calibrate: int) -> tuple[Stage, ...]:
    """One-Shot (Bender et al. 2018): all options train at once, more and more of them dropped; then random search.

    dropout: the chance that all options of a choice would be dropped, rising linearly from 0 over the training (see
        `search.paths.dropped_paths`). Weights of what was dropped do not decay. candidates: random architectures that
        are judged; the best is derived. calibrate: see `spos`.
    """
    network = setup.network()
    optimizer = weights.optimizer(setup.steps, paths=True)
    sampler = dropped_paths(optax.linear_schedule(0.0, dropout, max(setup.steps, 1)))
    learn = learn_weights(sampler, classification(network), optimizer, network.active, setup.mean)
    batch = round_size(candidates)
    strategy = random_search(problem_of(setup), batch=batch)
    return (
        _stage(setup, learn, network, optimizer, branches=False),
        decision_stage(setup, strategy, candidates // batch, calibrate),
    )


def spos(
    setup: Setup,
    weights: Weights,
    evolution: Evolution,
    *,
    calibrate: int,
    cost_bins: int,
) -> tuple[Stage, ...]:
    """Single Path One-Shot (Guo et al. 2020): one uniform path trains in every step; then evolution.

    calibrate: how many training images are put before those that a candidate is judged on, to normalise them by their
        statistics alone, as if these had been recomputed for it; so what is predicted of an image depends on no other
        validation image. 0: every validation batch by its own statistics.
    cost_bins: with this many, the paths that train are spread evenly over the costs up to the limit; 0: they are
        uniform. Raises UserError for bins in a search without a cost.
    """
    supernet = supernet_stage(setup, weights, cost_bins)
    return supernet, decision_stage(setup, evolution.strategy(problem_of(setup)), evolution.rounds, calibrate)


def fairnas(
    setup: Setup,
    weights: Weights,
    *,
    rounds: int,
    population: int,
    mutation_rate: float,
    crossover_rate: float,
    calibrate: int,
) -> tuple[Stage, ...]:
    """FairNAS (Chu et al. 2019): every step trains every option once, in as many paths; then NSGA-II on error and cost.

    A step takes one batch through as many paths as the largest choice has options, and updates once.
    rounds, population, mutation_rate, crossover_rate: of NSGA-II, see `strategies.pareto`. Without a cost, of
        `strategies.evolution`, with half of the population as parents. calibrate: see `spos`.
    """
    space, network = setup.space, setup.network(paths=1)
    optimizer = weights.optimizer(setup.steps, paths=True)
    paths = max(int(mask.sum(axis=1).max()) for mask in space.allowed.values())
    learn = learn_fairly(paths, classification(network), optimizer, network.active, setup.mean)
    if setup.cost is not None:
        strategy = nsga2(
            problem_of(setup), population=population, mutation_rate=mutation_rate, crossover_rate=crossover_rate
        )
    else:
        crossovers = round(crossover_rate * population)
        parents, mutants = max(population // 2, 1), population - crossovers
        evolved = Evolution(rounds, population, parents, mutants, crossovers, mutation_rate)
        strategy = evolved.strategy(problem_of(setup))
    return (
        _stage(setup, learn, network, optimizer, memory=untrained(space)),
        decision_stage(setup, strategy, rounds, calibrate),
    )


def round_size(candidates: int) -> int:
    """How many of so many candidates are judged in a round: as many in each, at most ROUND."""
    return max(size for size in range(1, min(candidates, ROUND) + 1) if candidates % size == 0)


def problem_of(setup: Setup) -> Problem:
    """What a strategy searches: the accuracy, or the negative of what the penalty makes of the error and the cost."""
    problem, penalty = Problem(setup.space, setup.cost, setup.limit), setup.penalty
    if setup.cost is None or penalty is None:
        return problem
    return problem._replace(reward=lambda accuracy, cost: -penalty(1.0 - accuracy, cost))


def supernet_stage(setup: Setup, weights: Weights, cost_bins: int = 0) -> Stage:
    """Weights trained by one uniform architecture in every step, or by one of uniform cost."""
    network, optimizer = setup.network(paths=1), weights.optimizer(setup.steps, paths=True)
    sampler = uniform_paths(setup.space)
    if cost_bins:
        if setup.cost is None:
            raise UserError(f"method.cost_bins is {cost_bins}, but the search has no cost; set it to 0, or cost.name.")
        low, high = attainable(setup.space, setup.cost)
        high = min(high, setup.limit) if setup.limit else high
        sampler = cost_uniform_paths(setup.space, setup.cost, low, high, cost_bins, TRIES)
    learn = learn_weights(sampler, classification(network), optimizer, network.active, setup.mean)
    return _stage(setup, learn, network, optimizer)


def _stage(
    setup: Setup,
    learn: Update,
    network: Network,
    optimizer: optax.GradientTransformationExtraArgs,
    *,
    branches: bool = True,
    memory: PyTree = (),
) -> Stage:
    """The stage in which the weights alone learn; what it would derive is a random architecture, always the same."""
    method = relaxation(
        setup,
        learn,
        network=network,
        child_network=setup.network(paths=1),
        weights=optimizer,
        logits=optax.with_extra_args_support(optax.set_to_zero()),
        branches=branches,
        memory=memory,
        warmup_epochs=setup.epochs,
    )
    return Stage("supernet", setup.epochs, method)


class Decision(NamedTuple):
    """What the second stage remembers.

    strategy: its state. seen: what was judged on the whole half. accuracy: of what would be derived.
    proposed: the outcome of the last round's proposals, its means. refused: whether a reward was not finite, and the
    first architecture that had such a one.
    """

    strategy: PyTree
    seen: Seen
    accuracy: Array
    proposed: Outcome
    refused: tuple[Array, Architecture]


def _undecided(space: Space, state: PyTree, candidates: int) -> Decision:
    nothing = jnp.zeros(())
    nowhere = {part: jnp.zeros(choices, jnp.int32) for part, (choices, _) in space.shapes.items()}
    return Decision(
        state,
        nothing_seen(space, candidates),
        nothing,
        Outcome(nothing, nothing, nothing),
        (jnp.zeros((), bool), nowhere),
    )


def decision_stage(
    setup: Setup,
    strategy: Strategy,
    rounds: int,
    calibrate: int,
    params_of: Callable[[PyTree, Architecture], Params] = lambda params, architecture: params,
    *,
    name: str = "search",
    begin: Callable[[Key, SearchState], PyTree] | None = None,
) -> Stage:
    """The stage in which a strategy decides, with the weights as they are; it has to judge what it takes for best.

    params_of: (what the stage before left as weights, architecture) -> the weights that judge it.
    begin: (key, what the stage before ended with) -> the strategy's first state; None for one that knows nothing.
    """
    space, problem = setup.space, problem_of(setup)
    if calibrate:
        setup.require("calibrate")
    network = setup.network(paths=1)

    def undecided(state: PyTree) -> Decision:
        return _undecided(space, state, rounds * strategy.batch)

    def enter(key: Key, before: SearchState) -> SearchState:
        own = named(key, "strategy")
        memory = undecided(strategy.init(own) if begin is None else begin(own, before))
        return before._replace(step=jnp.zeros((), jnp.int32), weights_state=(), memory=memory)

    def init(key: Key) -> SearchState:
        params = network.init(named(key, "weights"))
        logits = {part: jnp.zeros(shape) for part, shape in space.shapes.items()}
        allowed = {part: jnp.asarray(mask) for part, mask in space.allowed.items()}
        memory = undecided(strategy.init(named(key, "strategy")))
        return SearchState(jnp.zeros((), jnp.int32), params, (), logits, (), allowed, memory)

    def child(state: SearchState, architecture: Architecture, images: Array, calibrate: int = 0) -> Array:
        own = setup.network(paths=1, calibrate=calibrate) if calibrate else network
        return own.apply(params_of(state.params, architecture), encode(space, architecture), images)

    def finish_epoch(key, state, epoch, accuracy, judge):
        del epoch, accuracy
        return _next_round(strategy, problem, calibrate, key, state, judge)

    method = Method(
        branches=True,
        init=init,
        step=alternating(_learn_nothing),
        predict=None,
        finish_epoch=finish_epoch,
        probabilities=lambda state: strategy.probabilities(state.memory.strategy),
        derive=lambda state: strategy.best(state.memory.strategy),
        child=child,
        metrics=lambda state: _metrics(strategy, state.memory),
        fault=lambda state: state.memory.refused,
    )
    return Stage(name, rounds, method, enter, steps_per_epoch=1)


def _learn_nothing(key, state, batches):
    """No step at all, so that the metrics of training have no value."""
    del key, batches
    nothing = Averaged(jnp.zeros(()), jnp.zeros(()))
    return state, {"train_loss": nothing, "train_accuracy": nothing}


def _next_round(
    strategy: Strategy, problem: Problem, calibrate: int, key: Key, state: SearchState, judge: Judge
) -> tuple[SearchState, Array]:
    """The state after a round, and the accuracy of what would be derived now."""
    memory: Decision = state.memory
    proposal = strategy.ask(named(key, "ask"), memory.strategy)
    proposed = dict(proposal.architectures)
    seen, accuracies = _judged(lambda one, share: judge(one, share=share, calibrate=calibrate), memory.seen, proposal)
    outcome = outcome_of(problem, proposed, accuracies)
    told = strategy.tell(named(key, "tell"), memory.strategy, proposal, outcome)

    best = strategy.best(told)
    is_best = jnp.all(jnp.concatenate([proposed[part] == best[part] for part in proposed], axis=1), axis=1)
    known, accuracy = (leaf[0] for leaf in look_up(seen, _single(best)))
    judged_now = jnp.where(jnp.any(is_best), accuracies[jnp.argmax(is_best)], memory.accuracy)

    bad = ~jnp.isfinite(outcome.reward)
    refused = jnp.any(bad), jax.tree.map(lambda leaf: leaf[jnp.argmax(bad)], proposed)
    was_refused = memory.refused[0]
    memory = Decision(
        strategy=told,
        seen=seen,
        accuracy=jnp.where(known, accuracy, judged_now),
        proposed=Outcome(*(jnp.mean(values) for values in outcome)),
        refused=jax.tree.map(lambda old, new: jnp.where(was_refused, old, new), memory.refused, refused),
    )
    return state._replace(memory=memory), memory.accuracy


def _judged(judge: Callable[[Architecture, Array], Array], seen: Seen, proposal: Proposal) -> tuple[Seen, Array]:
    """The accuracies [batch] of what is proposed, one after another; what was judged in full is not judged again."""

    def one(seen: Seen, scanned: tuple[Architecture, Array]) -> tuple[Seen, Array]:
        architecture, share = scanned
        known, cached = (leaf[0] for leaf in look_up(seen, _single(architecture)))
        in_full = share >= 1
        accuracy = jax.lax.cond(known & in_full, lambda: cached, lambda: judge(architecture, share))
        after = remember(seen, _single(architecture), accuracy[None])
        return jax.tree.map(lambda new, old: jnp.where(in_full, new, old), after, seen), accuracy

    return jax.lax.scan(one, seen, (dict(proposal.architectures), proposal.fidelity))


def _single(architecture: Architecture) -> Architecture:
    return {part: options[None] for part, options in architecture.items()}


def _metrics(strategy: Strategy, memory: Decision) -> dict[str, Array]:
    own = {f"strategy_{name}": value for name, value in strategy.metrics(memory.strategy).items()}
    means = {f"proposed_{name}": value for name, value in memory.proposed._asdict().items()}
    return {**own, **means, "judged": memory.seen.stored.astype(jnp.float32)}
