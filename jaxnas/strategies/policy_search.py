"""The round that all searches by a policy share: draw codes, propose their architectures, learn from the rewards."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxnas.core.errors import choose
from jaxnas.core.keys import named
from jaxnas.core.types import Architecture, Array, Key, Metrics, PyTree
from jaxnas.strategies.drawing import TRIES, legal, prepared
from jaxnas.strategies.policy import Code, Policy, decoded
from jaxnas.strategies.strategy import Incumbent, Outcome, Problem, Proposal, Strategy, better, whole

VOTES = 256  # codes that decide by vote


class Behaviour(NamedTuple):
    """What codes are drawn from, given the parameters of a policy; see `strategies.off_policy.behaviour`.

    sample: (key, parameters) -> a code. log_probs: (parameters, code) -> {part: [choices]}, the log-probability of
    every decision given those before it; their sum is that of the code, exact.
    """

    sample: Callable[[Key, PyTree], Code]
    log_probs: Callable[[PyTree, Code], Mapping[str, Array]]


class Samples(NamedTuple):
    """Codes and how they did.

    codes: int32 {part: [n, choices]}. log_mu: {part: [n, choices]}, the log-probability of every decision under the
    behaviour that drew them, at the time. rewards: [n], finite. counted: bool [n], which of them an update is to use.
    """

    codes: Code
    log_mu: Mapping[str, Array]
    rewards: Array
    counted: Array


class Baseline(NamedTuple):
    """A moving average of rewards, a scalar; known: bool, whether there was a reward yet."""

    value: Array
    known: Array


class PolicyState(NamedTuple):
    """What a search by a policy carries from round to round.

    memory: of what learns, such as the state of its optimizer. reward: the mean of the last round. sample_size: the
    effective number of samples in the last update. excluded: int32, how many rewards were not finite so far.
    """

    parameters: PyTree
    memory: PyTree
    baseline: Baseline
    incumbent: Incumbent
    reward: Array
    sample_size: Array
    excluded: Array


class Learned(NamedTuple):
    """What an update leaves: new parameters and memory, and the effective number of samples that it rests on."""

    parameters: PyTree
    memory: PyTree
    sample_size: Array


class Draws(NamedTuple):
    """What a proposal keeps: codes {part: [n, choices]}, the log-probabilities of their decisions {part: [n, choices]},
    and which were drawn, bool [n]; the others stand in for legal codes that were not found.
    """

    codes: Code
    log_mu: Mapping[str, Array]
    drawn: Array


Learn = Callable[[Key, PolicyState, Samples], Learned]
Select = Callable[[PyTree, Incumbent], Architecture]  # (parameters, the best that was sampled) -> what is derived


def search_by_policy(
    problem: Problem,
    policy: Policy,
    behaviour: Behaviour,
    *,
    batch: int,
    baseline_decay: float,
    memory: Callable[[PyTree], PyTree],
    learn: Learn,
    selection: str = "argmax",
) -> Strategy:
    """A strategy that proposes what `behaviour` draws and hands the rewards to `learn`.

    memory: initial parameters -> the memory that `learn` begins with. learn: (key, state, samples) -> what it learned;
    the baseline in its state is from before these samples, but for the first, whose mean reward is their own baseline.
    Where the cost has a limit codes are drawn until one is within it. Their log-probabilities are those before that, so
    that ratios of two behaviours are right up to a factor that all samples of a round share, and the gradient is that
    of the expected reward within the limit as far as the baseline is this expectation. If none of TRIES is found a
    legal architecture stands in that no update counts. Raises UserError as `drawing.prepared` does.
    """
    problem, fallback = prepared(problem)
    select = selected(selection, problem, policy)

    def init(key: Key) -> PolicyState:
        parameters = policy.init(named(key, "parameters"))
        zero = jnp.zeros(())
        nothing = Baseline(zero, jnp.zeros((), bool))
        incumbent = Incumbent(fallback, jnp.full((), -jnp.inf))
        return PolicyState(parameters, memory(parameters), nothing, incumbent, zero, zero, jnp.zeros((), jnp.int32))

    def ask(key: Key, state: PolicyState) -> Proposal:
        probabilities = policy.probabilities(state.parameters)

        def draw(key: Key) -> tuple[Architecture, Draws]:
            def code_of(number: Array | int) -> Code:
                return behaviour.sample(jax.random.fold_in(key, number), state.parameters)

            def fits(code: Code) -> Array:
                return legal(problem, decoded(problem.space, code, probabilities))

            number, drawn = _first(lambda number: fits(code_of(number))) if problem.limit else (0, jnp.asarray(True))
            code = {part: jnp.where(drawn, options, fallback[part]) for part, options in code_of(number).items()}
            log_mu = behaviour.log_probs(state.parameters, code)
            return decoded(problem.space, code, probabilities), Draws(code, log_mu, drawn)

        return whole(*jax.vmap(draw)(jax.random.split(key, batch)))

    def tell(key: Key, state: PolicyState, proposal: Proposal, outcome: Outcome) -> PolicyState:
        finite = jnp.isfinite(outcome.reward)
        rewards = jnp.where(finite, outcome.reward, 0.0)
        codes, log_mu, drawn = proposal.info
        samples = Samples(codes, log_mu, rewards, finite & drawn)
        state = state._replace(baseline=first_baseline(state.baseline, samples))
        learned = learn(key, state, samples)
        return PolicyState(
            learned.parameters,
            learned.memory,
            moved_baseline(state.baseline, samples, baseline_decay),
            better(state.incumbent, proposal.architectures, jnp.where(finite, rewards, -jnp.inf)),
            mean_reward(samples),
            learned.sample_size.astype(state.sample_size.dtype),
            state.excluded + jnp.sum(~finite, dtype=jnp.int32),
        )

    def metrics(state: PolicyState) -> Metrics:
        return {
            "entropy": policy.entropy(state.parameters, policy.mode(state.parameters)),
            "baseline": state.baseline.value,
            "mean_reward": state.reward,
            "effective_sample_size": state.sample_size,
            "excluded_rewards": state.excluded,
        }

    return Strategy(
        batch=batch,
        init=init,
        ask=ask,
        tell=tell,
        best=lambda state: select(state.parameters, state.incumbent),
        probabilities=lambda state: policy.probabilities(state.parameters),
        metrics=metrics,
    )


def _first(holds: Callable[[Array], Array]) -> tuple[Array, Array]:
    """The first of the numbers below TRIES of which something holds, and whether there is one."""

    def step(carry: tuple[Array, Array]) -> tuple[Array, Array]:
        number = carry[0] + 1
        return number, holds(number)

    start = jnp.zeros((), jnp.int32)
    return jax.lax.while_loop(lambda carry: (carry[0] < TRIES - 1) & ~carry[1], step, (start, holds(start)))


def on_policy(policy: Policy) -> Behaviour:
    """Draws from the policy itself."""
    return Behaviour(policy.sample, policy.log_probs)


def first_baseline(baseline: Baseline, samples: Samples) -> Baseline:
    """The baseline, or the samples' mean reward where there was none."""
    known = baseline.known | jnp.any(samples.counted)
    return Baseline(jnp.where(baseline.known, baseline.value, mean_reward(samples)), known)


def moved_baseline(baseline: Baseline, samples: Samples, decay: float) -> Baseline:
    """The moving average with the samples' mean reward taken in; as it was where no sample is counted."""
    toward = baseline.value + (1 - decay) * (mean_reward(samples) - baseline.value)
    return baseline._replace(value=jnp.where(jnp.any(samples.counted), toward, baseline.value))


def mean_reward(samples: Samples) -> Array:
    """The mean reward of the samples that are counted, 0 if there are none."""
    return jnp.sum(jnp.where(samples.counted, samples.rewards, 0.0)) / jnp.maximum(jnp.sum(samples.counted), 1)


def selected(name: str, problem: Problem, policy: Policy) -> Select:
    """What a search by a policy derives: (parameters, the best that was sampled) -> an architecture.

    "argmax": of the greedy code. "vote": of the option of every choice that most of `VOTES` samples have; they are the
    same for the same parameters. "best_sampled": the one with the largest reward. Where the first two exceed the limit
    of the cost, it is the third. Raises UserError for another name.
    """
    code_of = choose(
        "selection",
        name,
        {"argmax": policy.mode, "vote": lambda parameters: vote(policy, parameters), "best_sampled": None},
    )

    def select(parameters: PyTree, incumbent: Incumbent) -> Architecture:
        if code_of is None:
            return incumbent.architecture
        chosen = decoded(problem.space, code_of(parameters), policy.probabilities(parameters))
        if not problem.limit:
            return chosen
        within = problem.price(chosen) <= problem.limit
        return jax.tree.map(
            lambda own, other: jnp.where(within, own, other), dict(chosen), dict(incumbent.architecture)
        )

    return select


def vote(policy: Policy, parameters: PyTree) -> Code:
    """The most frequent option of every choice in `VOTES` samples, of equals the first."""
    keys = jax.random.split(jax.random.key(0), VOTES)
    codes = jax.vmap(lambda key: policy.sample(key, parameters))(keys)
    counts = {
        part: jnp.sum(jax.nn.one_hot(codes[part], rows.shape[-1]), axis=0)
        for part, rows in policy.probabilities(parameters).items()
    }
    return {part: jnp.argmax(count, axis=-1).astype(jnp.int32) for part, count in counts.items()}
