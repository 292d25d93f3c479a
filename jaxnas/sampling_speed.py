"""How fast strategies search a table, against the loops that one would write in Python for the same search."""

import itertools
import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.core.keys import at_step
from jaxnas.evaluate.synthetic import synthetic_table
from jaxnas.evaluate.tabular import Table, column
from jaxnas.evaluate.tabular_search import answers, tabular_search
from jaxnas.strategies.policy import factorised
from jaxnas.strategies.policy_gradient import reinforce
from jaxnas.strategies.strategy import Problem, Strategy, outcome_of

LEARNING_RATE, ENTROPY_WEIGHT, BASELINE_DECAY = 0.1, 0.001, 0.9
FIRST_DECAY, SECOND_DECAY, EPSILON = 0.9, 0.999, 1e-8  # of Adam
REPEATS = 3  # runs of a loop, of which the fastest counts

Accuracies = Mapping[tuple[int, ...], float]  # by the option numbers of an architecture


class Learner(NamedTuple):
    """REINFORCE in NumPy: logits and Adam's two moments, each float64 [choices, options], baseline and steps taken."""

    logits: np.ndarray
    first: np.ndarray
    second: np.ndarray
    baseline: float | None
    steps: int


def tabular_speed(
    *, choices: int = 8, options: int = 3, batch: int = 1, repetitions: int = 1000, updates: int = 1000
) -> dict[str, Any]:
    """Updates per second of REINFORCE with a factorised policy on a synthetic table of options^choices architectures.

    search: of `tabular_search`, all repetitions together, everything recorded, compiling not counted. numpy: of a loop
    in NumPy with the same updates, in one repetition. jitted: of a loop that calls one compiled function an update.
    times_numpy, times_jitted: how many times as fast the search is. batch: architectures an update.
    """
    table = synthetic_table(choices=choices, options=options, interactions=0.5, seed=0)
    problem = Problem(table.space)
    strategy = reinforce(
        problem,
        factorised(table.space),
        batch=batch,
        learning_rate=LEARNING_RATE,
        entropy_weight=ENTROPY_WEIGHT,
        baseline_decay=BASELINE_DECAY,
        clip=0.0,
    )
    curves = tabular_search(
        strategy,
        problem,
        answers(table, "accuracy"),
        evaluations=updates * batch,
        key=jax.random.key(0),
        repetitions=repetitions,
    )
    accuracies = _accuracies(table, choices, options)
    rates = {
        "search": repetitions * updates / curves.seconds,
        "numpy": _rate(numpy_loop(accuracies, choices, options, batch), updates),
        "jitted": _rate(jitted_loop(accuracies, problem, strategy), updates),
    }
    ratios = {f"times_{name}": rates["search"] / rates[name] for name in ("numpy", "jitted")}
    return {"batch": batch, "repetitions": repetitions, "compile": curves.compile, **rates, **ratios}


def _accuracies(table: Table, choices: int, options: int) -> Accuracies:
    numbers = itertools.product(range(options), repeat=choices)
    return dict(zip(numbers, column(table, "accuracy").tolist(), strict=True))


def _rate(loop: Iterator[Any], updates: int) -> float:
    """Updates per second of a loop that does one whenever it is asked for its next value."""
    next(loop)  # compiles, where it does
    times = []
    for _ in range(REPEATS):
        begin = time.perf_counter()
        for _ in range(updates):
            next(loop)
        times.append(time.perf_counter() - begin)
    return updates / min(times)


def numpy_loop(accuracies: Accuracies, choices: int, options: int, batch: int) -> Iterator[Learner]:
    """REINFORCE as a loop in NumPy, vectorised over choices and batch: yields the learner after every update."""
    generator = np.random.default_rng(0)
    zeros = np.zeros((choices, options))
    learner = Learner(zeros, zeros, zeros, None, 0)
    while True:
        probabilities = softmax(learner.logits)
        below = probabilities.cumsum(axis=1)[:, :-1]
        codes = (generator.random((batch, choices, 1)) > below).sum(axis=-1)
        rewards = np.array([accuracies[tuple(code)] for code in codes.tolist()])
        learner = numpy_update(learner, probabilities, codes, rewards)
        yield learner


def numpy_update(learner: Learner, probabilities: np.ndarray, codes: np.ndarray, rewards: np.ndarray) -> Learner:
    """The learner after codes [n, choices] of its probabilities earned rewards [n]: the step that `reinforce` takes."""
    baseline = rewards.mean() if learner.baseline is None else learner.baseline
    one_hot = np.eye(learner.logits.shape[1])[codes]
    gradient = ((rewards - baseline)[:, None, None] * (one_hot - probabilities)).mean(axis=0)
    logs = np.log(probabilities)
    mean_logs = (probabilities * logs).sum(axis=1, keepdims=True)
    gradient -= ENTROPY_WEIGHT * probabilities * (logs - mean_logs)
    steps = learner.steps + 1
    first = FIRST_DECAY * learner.first + (1 - FIRST_DECAY) * gradient
    second = SECOND_DECAY * learner.second + (1 - SECOND_DECAY) * gradient**2
    scale = np.sqrt(second / (1 - SECOND_DECAY**steps)) + EPSILON
    logits = learner.logits + LEARNING_RATE * first / (1 - FIRST_DECAY**steps) / scale
    return Learner(logits, first, second, baseline + (1 - BASELINE_DECAY) * (rewards.mean() - baseline), steps)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities of [choices, options]."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def jitted_loop(accuracies: Accuracies, problem: Problem, strategy: Strategy) -> Iterator[Any]:
    """A strategy as a loop in Python, which looks up and calls one compiled function an update; yields its state."""
    key = jax.random.key(0)
    (part,) = problem.space.shapes

    @jax.jit
    def following(number: int, state: Any, proposal: Any, observed: np.ndarray) -> Any:
        outcome = outcome_of(problem, proposal.architectures, jnp.asarray(observed))
        state = strategy.tell(at_step(key, "tell", number), state, proposal, outcome)
        return state, strategy.ask(at_step(key, "ask", number + 1), state)

    state = strategy.init(key)
    proposal = jax.jit(strategy.ask)(key, state)
    for number in itertools.count():
        codes = np.asarray(proposal.architectures[part]).tolist()
        observed = np.array([accuracies[tuple(code)] for code in codes], np.float32)
        state, proposal = following(number, state, proposal, observed)
        yield state
