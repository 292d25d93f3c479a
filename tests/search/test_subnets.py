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


def init(key):
    first, second = jax.random.split(key)
    return {"scales": jax.random.normal(first, (2, 3, 4)), "classifiers": jax.random.normal(second, (4, 4, 3))}


NETWORK = Network(init, apply, active)


def start(optimizer, seed=0, memory=()):
    params = init(jax.random.key(seed))
    allowed = {part: jnp.asarray(mask) for part, mask in SPACE.allowed.items()}
    logits = {part: jnp.zeros(shape) for part, shape in SPACE.shapes.items()}
    return SearchState(jnp.zeros((), jnp.int32), params, optimizer.init(params), logits, (), allowed, memory)


def batches():
    batch = Batch(jax.random.normal(jax.random.key(1), (6, 2, 2, 4)), jnp.arange(6) % 3)
    return Batches(batch, batch)


def drawn(state, number):
    """What a step with KEY draws, one after another, all at the resolution of the first."""
    gates = draw_subnets(SAMPLER, number, KEY, state.visible, state.step)
    each = [jax.tree.map(lambda leaf, n=n: leaf[n], gates) for n in range(number)]
    return [{**one, "resolution": each[0]["resolution"]} for one in each]


def soft_cross_entropy(logits, answers):
    return -jnp.mean(jnp.sum(jax.nn.softmax(answers) * jax.nn.log_softmax(logits), axis=-1))


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
    expected = actual = start(optimizer)
    for number in range(3):
        expected, expected_metrics = usual(jax.random.key(number), expected, batches())
        actual, metrics = learner(SAMPLER, 1, NETWORK, optimizer)(jax.random.key(number), actual, batches())
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
        state = start(optimizer, memory=init(jax.random.key(9)))
        teacher = largest_teacher(SPACE, NETWORK, lambda state: state.memory) if distillation else None
        learn = learner(SAMPLER, 3, NETWORK, optimizer, teacher=teacher, distillation=distillation)
        after, metrics = learn(KEY, state, batches())
        batch, each = batches().train, drawn(state, 3)
        largest = {**encode(SPACE, named_subnets(SPACE)["largest"]), "resolution": each[0]["resolution"]}
        answers = apply(state.memory, largest, batch.images)

        def loss(params, gates):
            logits = apply(params, gates, batch.images)
            soft = soft_cross_entropy(logits, answers)
            return cross_entropy(logits, batch.labels) + distillation * soft, soft

        gradients = [jax.grad(loss, has_aux=True)(state.params, gates)[0] for gates in each]
        expected = jax.tree.map(lambda w, *gs: w - 0.1 * sum(gs), state.params, *gradients)
        for name in expected:
            np.testing.assert_allclose(after.params[name], expected[name], rtol=1e-12)
        if distillation:
            soft = np.mean([loss(state.params, gates)[1] for gates in each])
            np.testing.assert_allclose(metrics["soft_loss"], soft, rtol=1e-12)
        labels = np.mean([cross_entropy(apply(state.params, gates, batch.images), batch.labels) for gates in each])
        np.testing.assert_allclose(metrics["train_loss"], labels, rtol=1e-12)


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
    for name in state.params:
        np.testing.assert_allclose(results[0][name], results[1][name], rtol=1e-6)
        assert np.any(results[0][name] != state.params[name])


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
    state = state._replace(allowed={**state.allowed, **jax.tree.map(jnp.asarray, smaller)})
    after, _ = learner(SAMPLER, 4, NETWORK, optimizer)(KEY, state, batches())
    used = active(jax.tree.map(lambda *leaves: jnp.max(jnp.stack(leaves), axis=0), *drawn(state, 4)))
    moved = jax.tree.map(lambda a, b: np.any(a != b, axis=-1), after.params, state.params)
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
        gates = draw_subnets(SAMPLER, 2, KEY, state.visible, state.step)
        ends = named_subnets(SPACE)
        largest = encode(SPACE, ends["largest"])
        taught = [encode(SPACE, ends["smallest"]), *(jax.tree.map(lambda leaf, n=n: leaf[n], gates) for n in range(2))]
        answers = apply(state.params, largest, batch.images)  # a constant: nothing is differentiated through it

        def of_labels(params):
            return cross_entropy(apply(params, largest, batch.images), batch.labels)

        def of_answers(params, own):
            return soft_cross_entropy(apply(params, own, batch.images), answers)

        gradients = [jax.grad(of_labels)(state.params), *(jax.grad(of_answers)(state.params, own) for own in taught)]
        for name, before in state.params.items():
            expected = before - 0.1 * sum(gradient[name] for gradient in gradients)
            np.testing.assert_allclose(after.params[name], expected, rtol=1e-12)
        soft = np.mean([of_answers(state.params, own) for own in taught])
        np.testing.assert_allclose(metrics["soft_loss"], soft, rtol=1e-12)
        of_all = [cross_entropy(apply(state.params, own, batch.images), batch.labels) for own in (largest, *taught)]
        np.testing.assert_allclose(metrics["train_loss"], np.mean(of_all), rtol=1e-12)


def test_draws_are_different_and_the_first_is_the_samplers_own():
    state = start(OPTIMIZERS["plain"]())
    gates = draw_subnets(SAMPLER, 8, KEY, state.visible, state.step)
    alone = SAMPLER(KEY, state.visible, state.step).gates
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
