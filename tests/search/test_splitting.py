"""Splitting a supernet: numbering by enumeration, disagreement by hand, members that learn as if each were alone."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxnas.core.keys import named
from jaxnas.core.types import Batch
from jaxnas.relax.categorical import masked
from jaxnas.search import optimizers
from jaxnas.search.objectives import Batches, SearchState
from jaxnas.search.paths import uniform_paths
from jaxnas.search.splitting import Split, disagreements, learn_members, most_options, split_supernet
from jaxnas.spaces.product import product_space
from jaxnas.spaces.space import encode

ALLOWED = {"a": np.array([[1, 1, 1], [1, 1, 0]], bool)}
SPACE = product_space("toy", {"a": tuple("012"), "b": tuple("01")}, {"a": 2, "b": 1}, allowed=ALLOWED)
EVERY = [
    {"a": np.asarray([first, second]), "b": np.asarray([third])}
    for first, second, third in itertools.product(range(3), range(2), range(2))
]
BATCH = Batch(np.asarray([[1.0, 2.0], [-1.0, 0.5]]), np.asarray([0, 1]))


def loss(params, gates, batch):
    """Every option of "a" turns the shared vector by its own matrix; "b" scales what comes out."""
    hidden = params["shared"]
    for choice in range(2):
        hidden = jnp.einsum("o,oij,j->i", gates["a"][choice], params["own"][choice], hidden)
    scale = gates["b"][0] @ jnp.asarray([1.0, 2.0])
    error = scale * batch.images @ hidden - batch.labels
    return jnp.mean(jnp.square(error)), {"accuracy": jnp.mean(error < 1)}


def active(gates):
    return {"shared": jnp.asarray(True), "own": gates["a"][..., None, None] > 0}


def params_of(seed):
    generator = np.random.default_rng(seed)
    return {name: np.float32(generator.normal(size=size)) for name, size in (("shared", 2), ("own", (2, 3, 2, 2)))}


gradient_of = jax.jit(jax.grad(loss, has_aux=True))
disagree = jax.jit(functools.partial(disagreements, SPACE, loss, active))


def test_every_architecture_is_in_the_member_that_holds_its_options():
    for choices in ([0], [1], [2], [0, 2], [2, 1]):
        split = Split(np.asarray(choices))

        @jax.jit
        def found(number, architecture, split=split):
            return split.within(SPACE, number, encode(SPACE, architecture)), split.member(SPACE, architecture)

        for member, architecture in itertools.product(range(3 ** len(choices)), EVERY):
            within, own = jax.device_get(found(member, architecture))
            taken = {part: np.argmax(rows, axis=-1) for part, rows in within.items()}
            assert all(ALLOWED["a"][row, option] for row, option in enumerate(taken["a"]))
            numbers, before = (np.concatenate([of["a"], of["b"]]) for of in (taken, architecture))
            digits = np.unravel_index(member, (3,) * len(choices))
            for number in range(3):
                options = (3, 2, 2)[number]
                wanted = dict(zip(choices, digits, strict=True)).get(number, before[number])
                # An option that the choice lacks leaves the path as it was.
                assert numbers[number] == (wanted if wanted < options else before[number])
            if own == member:
                assert all(np.array_equal(taken[part], architecture[part]) for part in taken)


def test_disagreement_is_one_minus_the_cosine_of_gradients_of_shared_weights():
    params, architecture = params_of(0), EVERY[4]
    found = disagree(params, architecture, BATCH)
    gates = {part: np.eye(options)[architecture[part]] for part, (_, options) in SPACE.shapes.items()}

    def gradient(part, choice, option):
        own = {**gates, part: gates[part].copy()}
        own[part][choice] = np.eye(gates[part].shape[1])[option]
        found = jax.device_get(gradient_of(params, own, BATCH)[0])
        ran = jax.tree.map(lambda one, like: np.broadcast_to(one, like.shape), active(own), found)
        return (np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)]) for tree in (found, ran))

    expected = []
    for part, choice, options in (("a", 0, 3), ("a", 1, 2), ("b", 0, 2)):
        values = []
        for one, other in itertools.combinations(range(options), 2):
            (first, first_ran), (second, second_ran) = gradient(part, choice, one), gradient(part, choice, other)
            both = first_ran & second_ran
            first, second = first[both], second[both]
            values.append(1 - first @ second / np.linalg.norm(first) / np.linalg.norm(second))
        expected.append(np.mean(values))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)  # float32


def test_options_that_do_the_same_agree():
    """All options of the first choice share one matrix: their gradients for everything else are the same."""
    params = params_of(1)
    params["own"][0] = params["own"][0, 0]
    found = disagree(params, EVERY[0], BATCH)
    assert abs(found[0]) < 1e-5 < found[1]


@pytest.mark.parametrize("choices", [[1], [0, 2]])
def test_members_learn_as_if_each_were_alone(choices):
    split, optimizer = (
        Split(np.asarray(choices)),
        optimizers.skip_inactive(optimizers.sgd(0.1, momentum=0.9, weight_decay=0.01, clip=5.0)),
    )
    members = most_options(SPACE) ** len(choices)
    sampler = uniform_paths(SPACE)

    @jax.jit
    def begun(params):
        members = split_supernet(SPACE, params, split.choices)
        logits = {part: jnp.zeros(shape) for part, shape in SPACE.shapes.items()}
        of_members = jax.vmap(optimizer.init)(members.params)
        return SearchState(jnp.zeros((), jnp.int32), members, of_members, logits, (), dict(SPACE.allowed), ())

    @jax.jit
    def step_alone(key, number, own, own_state, state):
        draw = sampler(named(key, "paths"), masked(state.logits, state.allowed), state.step)
        gates = split.within(SPACE, number, draw.gates)
        gradient = jax.grad(loss, has_aux=True)(own, gates, BATCH)[0]
        changes, own_state = optimizer.update(gradient, own_state, own, active=active(gates))
        return optax.apply_updates(own, changes), own_state

    state = begun(params_of(2))
    learn = jax.jit(learn_members(SPACE, sampler, loss, optimizer, active))
    alone = [(params_of(2), jax.jit(optimizer.init)(params_of(2)))] * members
    for step in range(3):
        key = jax.random.key(step)
        state, metrics = learn(key, state, Batches(BATCH, BATCH))
        assert np.isfinite(metrics["train_loss"])
        alone = [step_alone(key, number, *own, state) for number, own in enumerate(alone)]
    for number, (own, _) in enumerate(alone):
        for name in own:
            found = np.asarray(state.params.params[name])[number]
            np.testing.assert_allclose(found, own[name], rtol=1e-5, atol=1e-6)
