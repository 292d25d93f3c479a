"""One update of a policy with shared weights, on networks whose rewards are known for every architecture."""

import functools
import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats
from scipy.special import softmax

from jaxnas.core.errors import UserError
from jaxnas.core.types import Batch, Network
from jaxnas.methods.controllers import skip_divergence
from jaxnas.methods.policy_updates import (
    Learning,
    learn_policy,
    learn_weights_along,
    least_probable,
    no_experience,
)
from jaxnas.search.objectives import Batches, SearchState, classification
from jaxnas.search.optimizers import adam, skip_inactive
from jaxnas.search.reward import Earned
from jaxnas.spaces.product import product_space
from jaxnas.spaces.space import encode
from jaxnas.strategies.off_policy import CORRECTIONS
from jaxnas.strategies.policy import factorised
from jaxnas.strategies.policy_search import Baseline
from jaxnas.strategies.recurrent import recurrent

SPACE = product_space("toy", {"blocks": ("a", "b", "c"), "skips": ("0", "1")}, {"blocks": 1, "skips": 2})
CODES = [
    {"blocks": np.asarray([block]), "skips": np.asarray(skips)}
    for block, *skips in itertools.product(range(3), range(2), range(2))
]
VALUES = {"blocks": jnp.asarray([0.1, 0.5, 0.2]), "skips": jnp.asarray([0.0, 0.2])}
POLICIES = {
    "factorised": lambda allowed: factorised(SPACE, allowed),
    "recurrent": lambda allowed: recurrent(SPACE, hidden=4, temperature=1.0, tanh_constant=2.5, allowed=allowed),
}
BATCHES = Batches(*(Batch(np.zeros((2, 1, 1, 1), np.float32), np.zeros(2, np.int32)) for _ in range(2)))
ALL = {part: jnp.asarray(mask) for part, mask in SPACE.allowed.items()}


def reward_of(code):
    """A sum over the choices; block b with both connections is best (0.9), block a without them worst (0.1)."""
    return sum(jnp.sum(VALUES[part][options]) for part, options in code.items())


def reward(params, path, architecture, batch):
    del params, batch
    return Earned(reward_of(path), reward_of(path), 10 * reward_of(architecture))


def start(learning, policy="factorised", allowed=ALL, optimizer=None, seed=0):
    parameters = POLICIES[policy](allowed).init(jax.random.key(seed))
    optimizer = optimizer or adam(0.1, b1=0.0, b2=0.999, weight_decay=0.0)
    nothing = jnp.zeros((), jnp.int32)
    return SearchState(nothing, {}, (), parameters, optimizer.init(parameters), allowed, no_experience(SPACE, learning))


def updating(learning, policy="factorised", earned=reward, optimizer=None, regulariser=None):
    optimizer = optimizer or adam(0.1, b1=0.0, b2=0.999, weight_decay=0.0)
    return learn_policy(SPACE, POLICIES[policy], earned, optimizer, learning, regulariser)


def after(update, state, count, seed=1):
    """The state after so many updates, and the metrics of each."""

    def one(state, key):
        return update(key, state, BATCHES)

    return jax.jit(lambda state: jax.lax.scan(one, state, jax.random.split(jax.random.key(seed), count)))(state)


def probability(policy, state, **options):
    """Of one option of every part named: {part: (choice, option)}."""
    values = jax.jit(POLICIES[policy](state.allowed).probabilities)(state.logits)
    return [float(np.asarray(values[part])[at]) for part, at in options.items()]


@functools.cache
def three_updates(policy, correction):
    learning = Learning(4, correction=correction, clip=1.5)
    return after(updating(learning, policy), start(learning, policy), 3)


@pytest.mark.parametrize(
    ("policy", "correction"),
    [*(("factorised", kind) for kind in CORRECTIONS if kind != "none"), ("recurrent", "ordinary")],
)
def test_samples_of_the_policy_itself_weigh_one(policy, correction):
    """Whatever the correction, an update on the policy's own samples is that without weights, bit for bit."""
    expected, _ = three_updates(policy, "none")
    actual, metrics = three_updates(policy, correction)
    chex.assert_trees_all_equal(expected, actual)
    assert metrics["policy/effective_sample_size"].tolist() == [4.0] * 3


def exact_gradient(parameters):
    """Of the expected reward of the factorised policy, by enumeration."""
    log_probs = factorised(SPACE).log_probs

    def expected(parameters):
        terms = [
            jnp.exp(sum(jnp.sum(each) for each in log_probs(parameters, code).values())) * reward_of(code)
            for code in CODES
        ]
        return sum(terms)

    return jax.jit(jax.grad(expected))(parameters)


@pytest.mark.parametrize(
    ("behaviour", "correction"),
    [("policy", "none"), ("random", "ordinary"), ("epsilon", "ordinary"), ("epsilon_per_choice", "per_decision")],
)
def test_the_mean_update_is_the_gradient_of_the_expected_reward(behaviour, correction):
    """Plain gradient descent at rate 1 moves the logits by the exact gradient, within four standard errors of 8000
    updates, from whatever the codes are drawn: an unbounded clip leaves the weights unbiased."""
    learning = Learning(2, behaviour, 0.5, correction, clip=float("inf"))
    state = start(learning, optimizer=optax.with_extra_args_support(optax.sgd(1.0)))
    logits = {"blocks": jnp.asarray([[1.0, 0.0, -0.5]]), "skips": jnp.asarray([[0.0, 0.7], [-0.4, 0.0]])}
    # A baseline that was there before is independent of the samples; the first one would not be.
    baseline = Baseline(np.float32(0.3), np.bool_(True))
    state = state._replace(logits=logits, memory=state.memory._replace(baseline=baseline))
    update = updating(learning, optimizer=optax.with_extra_args_support(optax.sgd(1.0)))
    keys = jax.random.split(jax.random.key(0), 8000)
    moved = jax.jit(jax.vmap(lambda key: update(key, state, BATCHES)[0].logits))(keys)
    for part, exact in exact_gradient(logits).items():
        moves = np.subtract(moved[part], logits[part], dtype=np.float64)
        error = moves.std(axis=0) / len(keys) ** 0.5
        assert np.all(np.abs(moves.mean(axis=0) - np.asarray(exact)) < 4 * error + 1e-7)


@pytest.mark.parametrize(
    ("policy", "learning"),
    [
        ("factorised", Learning(4)),
        ("factorised", Learning(4, "random", correction="ordinary")),
        ("factorised", Learning(4, "epsilon", 0.3, "clipped", 2.0, replay=16, replayed=4)),
        ("factorised", Learning(4, "epsilon_per_choice", 0.3, "per_decision", 2.0, entropy_weight=1e-3)),
        ("factorised", Learning(4, "random", correction="self_normalised", replay=3, replayed=2)),
        ("recurrent", Learning(4, entropy_weight=1e-3)),
    ],
)
def test_a_policy_finds_what_is_clearly_better(policy, learning):
    """Block b is worth 0.3 more than the next, a connection 0.2: their chances of 1/3 and 1/2 exceed 0.7."""
    state, metrics = after(updating(learning, policy), start(learning, policy), 150)
    found = probability(policy, state, blocks=(0, 1), skips=(1, 1))
    assert min(found) > 0.7
    assert float(metrics["reward/argmax"][-1]) > 0.89
    np.testing.assert_array_equal(state.memory.best.architecture["blocks"], [1])
    np.testing.assert_allclose(state.memory.best.reward, 0.9, rtol=1e-6)


def test_what_is_logged_is_what_was_rewarded():
    learning = Learning(3, "argmax")
    state = start(learning)
    state = state._replace(logits={"blocks": jnp.asarray([[0.0, -1.0, 1.0]]), "skips": jnp.asarray([[0.0, 1], [1, 0]])})
    policy = factorised(SPACE)
    after_one, metrics = jax.jit(updating(learning))(jax.random.key(0), state, BATCHES)
    # Of argmax all samples are the same: c with the first connection, 0.2 + 0.2; the least is b with the second.
    least = jax.jit(functools.partial(least_probable, policy))(state)
    assert (least["blocks"].tolist(), least["skips"].tolist()) == ([1], [0, 1])
    expected = {"sampled": 0.4, "argmax": 0.4, "argmin": 0.7, "best": 0.4}
    for name, value in expected.items():
        np.testing.assert_allclose(metrics[f"reward/{name}"], value, rtol=1e-6)
    np.testing.assert_allclose(metrics["logits_cost"], 4.0, rtol=1e-6)
    np.testing.assert_allclose(metrics["policy/baseline"], 0.4, rtol=1e-6)
    whole = sum(np.sum(stats.entropy(softmax(values, axis=-1), axis=-1)) for values in state.logits.values())
    np.testing.assert_allclose(metrics["policy/entropy"], whole, rtol=1e-6)
    # Rewards that equal their baseline teach nothing.
    chex.assert_trees_all_close(after_one.logits, state.logits, atol=1e-6)


def test_the_baseline_is_the_first_mean_and_then_moves():
    learning = Learning(2, baseline_decay=0.75)

    def given(params, path, architecture, batch):
        del path, architecture, batch
        return Earned(params, params)

    update = jax.jit(updating(learning, earned=given))
    state = start(learning)._replace(params=jnp.asarray(0.5))
    state, metrics = update(jax.random.key(0), state, BATCHES)
    assert float(state.memory.baseline.value) == float(metrics["policy/baseline"]) == 0.5
    chex.assert_trees_all_equal(state.logits, start(learning).logits)
    state, metrics = update(jax.random.key(0), state._replace(params=jnp.asarray(0.9)), BATCHES)
    assert float(metrics["policy/baseline"]) == 0.5  # used before it moves
    np.testing.assert_allclose(state.memory.baseline.value, 0.6, rtol=1e-6)
    assert "logits_cost" not in metrics


def test_the_best_so_far_is_challenged_on_the_same_batch():
    """Its reward is measured again in every update, so that a lucky batch does not keep it in place."""
    learning = Learning(8, "random")

    def drifting(params, path, architecture, batch):
        del params, architecture
        value = jnp.where(batch.labels[0] == 0, reward_of(path), -reward_of(path))
        return Earned(value, value)

    update = jax.jit(updating(learning, earned=drifting))
    state, _ = update(jax.random.key(0), start(learning), BATCHES)
    good = float(state.memory.best.reward)
    other = BATCHES._replace(valid=BATCHES.valid._replace(labels=np.ones(2, np.int32)))
    state, metrics = update(jax.random.key(1), state, other)
    assert -good <= float(state.memory.best.reward) == float(metrics["reward/best"]) <= 0
    expected = -np.asarray(jax.jit(reward_of)(state.memory.best.architecture))
    np.testing.assert_allclose(state.memory.best.reward, expected, rtol=1e-6)


@pytest.mark.parametrize("behaviour", ["policy", "epsilon", "epsilon_per_choice"])
def test_options_that_are_no_longer_searched_stay_out(behaviour):
    allowed = {**ALL, "blocks": jnp.asarray([[True, False, True]])}
    learning = Learning(4, behaviour, 0.5, "clipped", 2.0, replay=8, replayed=2)
    state = start(learning, allowed=allowed)
    state = state._replace(logits={**state.logits, "blocks": jnp.asarray([[0.1, 5.0, 0.0]])})
    learned, metrics = after(updating(learning), state, 5)
    assert probability("factorised", learned, blocks=(0, 1)) == [0.0]
    assert 1 not in np.asarray(learned.memory.replay.samples.codes["blocks"])
    assert float(learned.logits["blocks"][0, 1]) == 5.0
    assert np.all(np.isfinite(metrics["policy/entropy"]))


def test_a_reward_that_is_not_finite_names_its_architecture():
    learning = Learning(4, "random")

    def broken(params, path, architecture, batch):
        earned = reward(params, path, architecture, batch)
        value = jnp.where(path["blocks"][0] == 2, jnp.inf, earned.reward)
        return earned._replace(reward=value)

    state, metrics = after(updating(learning, earned=broken), start(learning), 10)
    assert bool(state.memory.faulty) and state.memory.culprit["blocks"].tolist() == [2]
    assert not np.all(np.isfinite(metrics["reward/sampled"]))
    chex.assert_tree_all_finite((state.logits, state.memory.baseline, state.memory.replay))


@pytest.mark.parametrize("target", [0.4])
def test_the_divergence_of_connections_from_their_target(target):
    """Its closed form for independent decisions, and where it leads when all rewards are equal."""
    logits = {"blocks": np.zeros((1, 3)), "skips": np.asarray([[0.0, 1.0], [2.0, 0.0]])}
    codes = jax.tree.map(lambda *leaves: np.stack(leaves), *CODES)
    chances = softmax(logits["skips"], axis=-1)[:, 1]
    terms = chances * np.log(chances / target) + (1 - chances) * np.log((1 - chances) / (1 - target))
    divergence = skip_divergence(0.8, target)
    found = jax.jit(functools.partial(divergence, factorised(SPACE)))(logits, codes)
    np.testing.assert_allclose(found, 0.8 * terms.mean(), rtol=1e-5)

    learning = Learning(2)
    equal = Earned(jnp.asarray(0.5), jnp.asarray(0.5))
    update = updating(learning, earned=lambda *_: equal, regulariser=divergence)
    state, _ = after(update, start(learning), 300)
    np.testing.assert_allclose(probability("factorised", state, skips=(0, 1)), [target], atol=0.1)  # steps of Adam


def test_the_weights_learn_along_the_code_that_was_drawn():
    """Weights of other options, and the parameters of the policy, stay as they are."""

    def apply(params, gates, images, noise=None):
        del noise
        value = sum(jnp.sum(gates[part] * params[part]) for part in gates)
        return jnp.stack([jnp.full(len(images), value), jnp.zeros(len(images))], axis=-1)

    network = Network(
        init=lambda key: {}, apply=apply, active=lambda gates: {part: values > 0 for part, values in gates.items()}
    )
    optimizer = skip_inactive(optax.with_extra_args_support(optax.sgd(1.0)))
    params = {part: np.ones(shape, np.float32) for part, shape in SPACE.shapes.items()}
    learning = Learning(1)
    state = start(learning)._replace(params=params, weights_state=optimizer.init(params))
    update = learn_weights_along(SPACE, lambda key, state: CODES[5], classification(network), optimizer, network.active)
    moved, metrics = jax.device_get(jax.jit(update)(jax.random.key(0), state, BATCHES))
    for part, gates in jax.jit(functools.partial(encode, SPACE))(CODES[5]).items():
        np.testing.assert_array_equal(moved.params[part] != 1, np.asarray(gates) > 0)
    chex.assert_trees_all_equal(moved.logits, state.logits)
    assert float(metrics["train_loss"]) > 0


@pytest.mark.parametrize(
    ("learning", "message"),
    [
        (Learning(2, replayed=3, replay=2), "method.replayed is 3, but method.replay keeps 2 samples"),
        (Learning(2, correction="clip"), "unknown correction 'clip'; did you mean 'clipped'"),
        (Learning(2, correction="clipped", clip=0.5), "clip is 0.5, but has to be at least 1"),
    ],
)
def test_settings_that_do_not_fit(learning, message):
    with pytest.raises(UserError, match=message):
        no_experience(SPACE, learning)


def test_repetitions_in_a_batch_are_those_alone():
    """The same draws, and the same parameters up to the rounding of sums that a batch may order in another way."""
    learning = Learning(2, "epsilon", 0.3, "clipped", 2.0, replay=4, replayed=2)
    state, keys = start(learning), jax.random.split(jax.random.key(3), 3)
    update = updating(learning)
    together = jax.jit(jax.vmap(lambda key: update(key, state, BATCHES)[0].logits))(keys)
    alone = jax.jit(lambda key: update(key, state, BATCHES)[0].logits)(keys[1])
    chex.assert_trees_all_close(jax.tree.map(lambda leaf: np.asarray(leaf)[1], together), alone, rtol=1e-5, atol=1e-6)
