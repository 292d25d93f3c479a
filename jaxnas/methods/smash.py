"""SMASH: a network writes the weights of all architectures; they are judged with these, and the best is trained."""

import math

from jaxnas.core.types import Key
from jaxnas.methods.method import Setup, Stage, Weights
from jaxnas.methods.sampled import decision_stage, problem_of, round_size, supernet_stage
from jaxnas.search.objectives import SearchState
from jaxnas.strategies.perturbation import perturbation
from jaxnas.strategies.strategy import Strategy


def smash(
    setup: Setup,
    weights: Weights,
    *,
    samples: int,
    perturbations: int,
    markov: int,
    mutation_rate: float,
    calibrate: int,
) -> tuple[Stage, ...]:
    """SMASH (Brock et al. 2017): a random architecture in every step trains what writes or shares the weights of all.

    samples: random architectures that are then judged with these weights. perturbations: of the best of them, every
        choice changed at mutation_rate, at least one. markov: steps of a chain that starts at the best of all and goes
        on to what is better, a stage of its own. calibrate: see `sampled.spos`.
    Where the supernet of the space has a hypernetwork, it is that which learns. On every other space this is the same
    search with shared weights.
    """

    def judging(batch: int) -> Strategy:
        counts = {"samples": samples, "perturbations": perturbations}
        return perturbation(problem_of(setup), **counts, mutation_rate=mutation_rate, batch=batch)

    batch = round_size(math.gcd(samples, perturbations))
    rounds = (samples + perturbations) // batch
    stages = supernet_stage(setup, weights), decision_stage(setup, judging(batch), rounds, calibrate)
    return (*stages, _chain(setup, judging(1), markov, calibrate)) if markov else stages


def _chain(setup: Setup, strategy: Strategy, steps: int, calibrate: int) -> Stage:
    """The same search, one architecture at a time, from what it had found."""
    stage = decision_stage(
        setup, strategy, steps, calibrate, name="chain", begin=lambda key, before: before.memory.strategy
    )

    def enter(key: Key, before: SearchState) -> SearchState:
        assert stage.enter is not None
        state = stage.enter(key, before)
        return state._replace(memory=state.memory._replace(accuracy=before.memory.accuracy))

    return stage._replace(enter=enter)
