"""Steps of nested networks against their definitions, subnet by subnet, on a toy whose options are sums of weights."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxnas.core.types import Batch, Network
from jaxnas.search.objectives import Batches, SearchState, classification, cross_entropy
from jaxnas.search.optimizers import sgd, skip_inactive
from jaxnas.search.paths import uniform_paths
from jaxnas.search.subnets import (
    draw_subnets,
    largest_options,
    largest_teacher,
    learn_sandwich,
    learn_subnets,
    named_subnets,
)
from jaxnas.search.updates import learn_weights
from jaxnas.spaces.product import product_space
from jaxnas.spaces.space import encode

ALLOWED = {"kernel": np.asarray([[1, 1, 1], [1, 0, 1]], bool)}
OPTIONS = {"kernel": ("3", "5", "7"), "depth": ("1", "2", "3", "4"), "resolution": ("6", "8", "10")}
SPACE = product_space("toy", OPTIONS, {"kernel": 2, "depth": 1, "resolution": 1}, allowed=ALLOWED)
SAMPLER = uniform_paths(SPACE)
KEY = jax.random.key(5)


def up_to(gates):
    """1 for the chosen option and all smaller ones, [choices, options]."""
    return jnp.cumsum(gates[:, ::-1], axis=1)[:, ::-1]


def apply(params, gates, images, noise=None):
    """Two layers whose scales are sums of what each option adds, a sum of classifiers, images scaled by their size."""
    del noise
    hidden = jnp.mean(images, axis=(1, 2)) * (gates["resolution"][0] @ jnp.asarray([0.5, 1.0, 2.0]))
    for layer in range(2):
        hidden = jnp.tanh(hidden * (up_to(gates["kernel"])[layer] @ params["scales"][layer]))
    return hidden @ jnp.tensordot(up_to(gates["depth"])[0], params["classifiers"], 1)


def active(gates):
    return {
        "scales": up_to(gates["kernel"])[:, :, None] > 0,
        "classifiers": up_to(gates["depth"])[0][:, None, None] > 0,
    }


def init(seed):
    generator = np.random.default_rng(seed)
    shapes = {"scales": (2, 3, 4), "classifiers": (4, 4, 3)}
    return {name: jnp.asarray(generator.normal(size=shape)) for name, shape in shapes.items()}


NETWORK = Network(init, apply, active)


def start(optimizer, seed=0, memory=()):
    params = init(seed)
    logits = {part: np.zeros(shape, np.float32) for part, shape in SPACE.shapes.items()}
    return SearchState(np.int32(0), params, optimizer.init(params), logits, (), dict(SPACE.allowed), memory)


def batches():
    batch = Batch(np.random.default_rng(1).normal(size=(6, 2, 2, 4)), np.arange(6) % 3)
    return Batches(batch, batch)


@functools.partial(jax.jit, static_argnums=1)
def draw(state, number):
    return draw_subnets(SAMPLER, number, KEY, state.visible, state.step)


def several(state, number):
    gates = jax.device_get(draw(state, number))
    return [jax.tree.map(lambda leaf, n=n: leaf[n], gates) for n in range(number)]


def drawn(state, number):
    """What a step with KEY draws, one after another, all at the resolution of the first."""
    each = several(state, number)
    return [{**one, "resolution": each[0]["resolution"]} for one in each]


def soft_cross_entropy(logits, answers):
    return -jnp.mean(jnp.sum(jax.nn.softmax(answers) * jax.nn.log_softmax(logits), axis=-1))


def stacked(trees):
    return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)


def assert_stepped(before, after, gradients):
    """Plain steps by the sum of these gradients."""
    for name, weights in jax.device_get(before).items():
        np.testing.assert_allclose(after[name], weights - 0.1 * np.sum(gradients[name], axis=0), rtol=1e-12)


def learner(*arguments, **keywords):
    return jax.jit(learn_subnets(*arguments, **keywords))


OPTIMIZERS = {
    "plain": lambda: optax.with_extra_args_support(optax.sgd(0.1)),
    "skipping": lambda: skip_inactive(sgd(0.1, momentum=0.9, weight_decay=0.1, clip=0.5)),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_one_subnet_without_a_teacher_is_a_step_of_a_single_path(name):
    optimizer = OPTIMIZERS[name]()
    usual = jax.jit(learn_weights(SAMPLER, classification(NETWORK), optimizer, active))
    learn = learner(SAMPLER, 1, NETWORK, optimizer)
    expected = actual = start(optimizer)
    for number in range(3):
        expected, expected_metrics = usual(jax.random.key(number), expected, batches())
        actual, metrics = learn(jax.random.key(number), actual, batches())
        for name in ("train_loss", "train_accuracy"):
            np.testing.assert_allclose(metrics[name], expected_metrics[name], rtol=1e-6)
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-7),
        (actual.params, actual.weights_state),
        (expected.params, expected.weights_state),
    )


@pytest.mark.parametrize("distillation", [0.0, 0.7])
def test_a_step_is_the_sum_of_the_gradients_of_its_subnets(distillation):
    """By the definition, in float64: each subnet by itself, at the same weights; gradients are added, not averaged."""
    with jax.enable_x64(True):
        optimizer = OPTIMIZERS["plain"]()
        state = start(optimizer, memory=init(9))
        teacher = largest_teacher(SPACE, NETWORK, lambda state: state.memory) if distillation else None
        learn = learner(SAMPLER, 3, NETWORK, optimizer, teacher=teacher, distillation=distillation)
        after, metrics = learn(KEY, state, batches())
        batch, each = batches().train, drawn(state, 3)
        largest = {**encode(SPACE, named_subnets(SPACE)["largest"]), "resolution": each[0]["resolution"]}

        def loss(params, gates):
            logits, answers = (apply(*own, batch.images) for own in ((params, gates), (state.memory, largest)))
            label, soft = cross_entropy(logits, batch.labels), soft_cross_entropy(logits, answers)
            return label + distillation * soft, (label, soft)

        by_hand = jax.jit(jax.grad(loss, has_aux=True))
        gradients, (labels, soft) = stacked(by_hand(state.params, gates) for gates in each)
        assert_stepped(state.params, after.params, gradients)
        if distillation:
            np.testing.assert_allclose(metrics["soft_loss"], np.mean(soft), rtol=1e-12)
        np.testing.assert_allclose(metrics["train_loss"], np.mean(labels), rtol=1e-12)


def test_a_teacher_that_is_the_network_itself_learns_nothing_from_teaching():
    """The step with the present largest network as teacher is that with the same weights held apart."""
    optimizer = OPTIMIZERS["plain"]()
    state = start(optimizer)
    state = state._replace(memory=state.params)
    results = [
        learner(SAMPLER, 2, NETWORK, optimizer, teacher=largest_teacher(SPACE, NETWORK, params_of), distillation=1.0)(
            KEY, state, batches()
        )[0].params
        for params_of in (lambda state: state.params, lambda state: state.memory)
    ]
    for name, before in jax.device_get(state.params).items():
        np.testing.assert_allclose(results[0][name], results[1][name], rtol=1e-6)
        assert np.any(np.asarray(results[0][name]) != before)


def test_the_resolution_is_drawn_once_for_teacher_and_subnets():
    """Every resolution is drawn, and in a step whatever runs reads images of one."""
    seen = []

    def watched(params, gates, images, noise=None):
        jax.debug.callback(lambda size: seen.append(int(size)), jnp.argmax(gates["resolution"][0]))
        return apply(params, gates, images, noise)

    optimizer = OPTIMIZERS["plain"]()
    network = NETWORK._replace(apply=watched)
    teacher = largest_teacher(SPACE, network, lambda state: state.params)
    learn = learner(SAMPLER, 3, network, optimizer, teacher=teacher, distillation=1.0)
    steps = []
    for number in range(12):
        seen.clear()
        jax.block_until_ready(learn(jax.random.key(number), start(optimizer), batches()))
        jax.effects_barrier()
        assert len(seen) == 4  # the teacher and three subnets
        assert len(set(seen)) == 1
        steps.append(seen[0])
    assert set(steps) == {0, 1, 2}


def test_the_optimizer_is_told_of_what_took_part_in_any_subnet():
    """Options that no subnet of the step had keep their weights and momentum, decay or not."""
    optimizer = OPTIMIZERS["skipping"]()
    state = start(optimizer)
    smaller = {"kernel": np.asarray([[1, 1, 0], [1, 0, 0]], bool), "depth": np.asarray([[1, 1, 0, 0]], bool)}
    state = state._replace(allowed={**state.allowed, **smaller})
    after, _ = learner(SAMPLER, 4, NETWORK, optimizer)(KEY, state, batches())
    used = jax.jit(active)(jax.tree.map(lambda *leaves: np.max(leaves, axis=0), *drawn(state, 4)))
    moved = jax.tree.map(lambda a, b: np.any(a != b, axis=-1), *jax.device_get((after.params, state.params)))
    np.testing.assert_array_equal(moved["scales"], np.broadcast_to(used["scales"], (2, 3, 1))[..., 0])
    np.testing.assert_array_equal(moved["classifiers"].any(axis=1), used["classifiers"][:, 0, 0])
    assert not moved["scales"].all() and not moved["classifiers"].all()


@pytest.mark.parametrize(
    "make",
    [
        lambda optimizer, mean: learn_subnets(SAMPLER, 2, NETWORK, optimizer, mean),
        lambda optimizer, mean: learn_sandwich(SPACE, SAMPLER, 1, NETWORK, optimizer, mean),
    ],
)
def test_devices_average_the_gradient_of_their_slices(make):
    """Two halves of a batch, each with its own gradient: their mean is the gradient of the whole."""
    optimizer = optax.with_extra_args_support(optax.sgd(0.1))
    teaching, batch = make(optimizer, lambda tree: tree), batches().train
    whole, _ = jax.jit(teaching)(KEY, start(optimizer), Batches(batch, batch))
    shared = make(optimizer, lambda tree: jax.lax.pmean(tree, "devices"))
    halves = Batch(batch.images.reshape(2, 3, 2, 2, 4), batch.labels.reshape(2, 3))

    def of_half(half):
        return shared(KEY, start(optimizer), Batches(half, half))[0].params

    # In the sandwich the largest answers for its own slice, so that all is the mean over examples.
    for name, parts in jax.jit(jax.vmap(of_half, axis_name="devices"))(halves).items():
        np.testing.assert_allclose(parts[0], parts[1], rtol=1e-6)
        np.testing.assert_allclose(parts[0], whole.params[name], rtol=1e-4, atol=1e-6)


def test_the_sandwich_learns_from_labels_at_its_top_alone():
    """By the definition, in float64: the largest by the labels, the smallest and all others by its answers."""
    with jax.enable_x64(True):
        optimizer = OPTIMIZERS["plain"]()
        state, batch = start(optimizer), batches().train
        after, metrics = jax.jit(learn_sandwich(SPACE, SAMPLER, 2, NETWORK, optimizer))(KEY, state, batches())
        largest, smallest = (encode(SPACE, named_subnets(SPACE)[name]) for name in ("largest", "smallest"))

        def loss(params, own, is_largest):
            logits = apply(params, own, batch.images)
            answers = apply(state.params, largest, batch.images)  # a constant: nothing is differentiated through it
            label, soft = cross_entropy(logits, batch.labels), soft_cross_entropy(logits, answers)
            return jnp.where(is_largest, label, soft), (label, soft)

        by_hand = jax.jit(jax.grad(loss, has_aux=True))
        subnets = enumerate((largest, smallest, *several(state, 2)))
        gradients, (labels, soft) = stacked(by_hand(state.params, own, number == 0) for number, own in subnets)
        assert_stepped(state.params, after.params, gradients)
        np.testing.assert_allclose(metrics["soft_loss"], np.mean(soft[1:]), rtol=1e-12)
        np.testing.assert_allclose(metrics["train_loss"], np.mean(labels), rtol=1e-12)


def test_draws_are_different_and_the_first_is_the_samplers_own():
    state = start(OPTIMIZERS["plain"]())
    gates = jax.device_get(draw(state, 8))
    alone = jax.jit(lambda state: SAMPLER(KEY, state.visible, state.step).gates)(state)
    for part in gates:
        np.testing.assert_array_equal(gates[part][0], alone[part])
    assert len({tuple(np.concatenate([np.argmax(gates[p][n], -1) for p in gates])) for n in range(8)}) > 4


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("smallest", {"kernel": [0, 0], "depth": [0], "resolution": [0]}),
        # Of four depths the lower in the middle, and of the two kernels that the second layer has.
        ("middle", {"kernel": [1, 0], "depth": [1], "resolution": [1]}),
        ("largest", {"kernel": [2, 2], "depth": [3], "resolution": [2]}),
    ],
)
def test_named_subnets(name, expected):
    found = named_subnets(SPACE)[name]
    assert {part: options.tolist() for part, options in found.items()} == expected
    assert all(options.dtype == jnp.int32 for options in found.values())


@pytest.mark.parametrize("count", [1, 2, 3, 9])
def test_largest_options_are_the_last_ones_that_a_choice_has(count):
    found = largest_options(SPACE, {"kernel": count})
    for row, mask in zip(found["kernel"], SPACE.allowed["kernel"], strict=True):
        assert np.flatnonzero(row).tolist() == np.flatnonzero(mask)[-count:].tolist()
    for part in ("depth", "resolution"):
        assert found[part].all()
