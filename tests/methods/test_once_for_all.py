"""Methods for nested networks: what their stages allow, teach, sort and log, and the settings that they refuse."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.core.errors import UserError
from jaxnas.core.types import Batch, Network
from jaxnas.methods import METHODS, Prediction, Setup, Weights
from jaxnas.methods.sampled import supernet_stage
from jaxnas.search.monitor import begin_watch
from jaxnas.search.objectives import Batches, cross_entropy
from jaxnas.spaces.elastic import elastic_plan, elastic_space
from jaxnas.spaces.product import product_space

PLAN = {
    "stem": 2,
    "stem_stride": 1,
    "first": 0,
    "widths": (4, 4),
    "strides": (1, 1),
    "squeeze": (False, False),
    "hard_swish": (False, False),
    "final": 4,
    "head": 4,
    "kernels": (3, 5, 7),
    "expansions": (1, 2, 3),
    "depths": (1, 2, 3),
    "resolutions": (4, 6, 8),
    "divisor": 1,
}
WEIGHTS = Weights(0.1, 0.01, momentum=0.0, weight_decay=0.0, clip=1e6)
PREDICTION = Prediction(
    measured=10,
    predictor_hidden=(4,),
    predictor_steps=2,
    predictor_batch=4,
    predictor_learning_rate=0.01,
    predictor_weight_decay=0.0,
    held_out=0.2,
    rounds=1,
    population=4,
    parents=2,
    mutants=1,
    crossovers=1,
    mutation_rate=0.1,
    finalists=1,
)
SHRINKING = {
    "kernel_epochs": 3,
    "depth_epochs": (2, 4),
    "width_epochs": (1, 5),
    "warmup_epochs": 2,
    "kernel_learning_rate": 0.3,
    "depth_learning_rates": (0.02, 0.04),
    "width_learning_rates": (0.05, 0.06),
    "kernel_subnets": 1,
    "depth_subnets": 2,
    "width_subnets": 4,
    "distillation": 1.0,
    "calibrate": 0,
}
EPOCHS, STEPS = 2, 3
SEARCH = ("measure", "evolve")


def init(key):
    """A classifier of the images' mean, what every kernel adds to its answer, and a mark (see `reorder`)."""
    first, second = jax.random.split(key)
    kernels = jax.random.normal(second, (6, 3, 3))
    return {"classifier": jax.random.normal(first, (4, 3)), "kernels": kernels, "trained": jnp.full((6, 3), -1.0)}


def apply(params, gates, images, noise=None):
    del noise
    answers = jnp.mean(images, axis=(1, 2)) @ params["classifier"]
    return answers + jnp.einsum("co,coa->a", gates["kernel"], params["kernels"])


def apply_alike(params, gates, images, noise=None):
    """All architectures answer the same."""
    del gates, noise
    return jnp.mean(images, axis=(1, 2)) @ params["classifier"]


def reorder(params, trained):
    """Marks the options that were trained before."""
    return {**params, "trained": jnp.asarray(trained["expansion"], jnp.float32)}


NETWORK = Network(init, apply, lambda gates: dict.fromkeys(("classifier", "kernels", "trained"), jnp.asarray(True)))
NETWORK = NETWORK._replace(reorder=reorder)


def setup_of(network=NETWORK, **changed):
    return Setup(elastic_space(elastic_plan(**PLAN | changed)), lambda paths=None, calibrate=0: network, STEPS, EPOCHS)


def make(name="once_for_all", setup=None, **settings):
    """The stages of a method, by name."""
    given = {**SHRINKING, **settings} if name == "once_for_all" else {"calibrate": 0, **settings}
    stages = METHODS[name](setup or setup_of(), WEIGHTS, PREDICTION, **given)
    return {stage.name: stage for stage in stages}


def batches():
    batch = Batch(np.random.default_rng(1).normal(size=(6, 2, 2, 4)), np.arange(6) % 3)
    return Batches(batch, batch)


def begun(stage, key, before):
    """The first state of a stage, from the last one of the stage before where there is one."""
    state = stage.method.init(key) if stage.enter is None else stage.enter(key, before)
    return begin_watch(state, stage.method.derive(state))


def first_states(stages):
    """{stage: its first state}, every stage but the last two beginning with the one before after a step."""
    states, state = {}, None
    for name, stage in stages.items():
        if name in SEARCH:
            break
        key = jax.random.key(len(states))
        states[name] = jax.device_get(jax.jit(functools.partial(begun, stage))(key, state))
        state, _ = jax.jit(stage.method.step)(key, states[name], batches())
    return states


@pytest.fixture(scope="module")
def stages():
    return make()


@pytest.fixture(scope="module")
def states(stages):
    return first_states(stages)


# How many of their largest options kernels, depths and expansions may take in each stage, and its epochs.
STAGES = {
    "largest": (1, 1, 1, 2),
    "kernel": (3, 1, 1, 5),
    "depth_1": (3, 2, 1, 2),
    "depth_2": (3, 3, 1, 6),
    "width_1": (3, 3, 2, 1),
    "width_2": (3, 3, 3, 7),
}


def test_stages_follow_one_another(stages):
    assert tuple(stages) == (*STAGES, *SEARCH)
    assert [stages[name].epochs for name in STAGES] == [epochs for *_, epochs in STAGES.values()]
    assert [stage.enter is None for stage in stages.values()] == [True] + [False] * 7


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_allows_the_largest_options_and_every_resolution(name, states, stages):
    state = states[name]
    counts = dict(zip(("kernel", "depth", "expansion"), STAGES[name], strict=False), resolution=3)
    probabilities = jax.jit(stages[name].method.probabilities)(state)
    for part, mask in state.allowed.items():
        expected = np.arange(3) >= 3 - counts[part]
        np.testing.assert_array_equal(mask, np.broadcast_to(expected, mask.shape))
        np.testing.assert_allclose(probabilities[part], mask / counts[part], rtol=1e-6)
    found = jax.device_get(jax.jit(stages[name].method.derive)(state))
    assert all((options == 2).all() for options in found.values())
    assert int(state.step) == 0


def test_the_teacher_stays_as_the_first_stage_left_it(states, stages):
    step = jax.jit(stages["largest"].method.step)
    left, _ = jax.device_get(step(jax.random.key(0), states["largest"], batches()))
    for name, state in states.items():
        if name == "largest":
            assert state.memory.teacher == ()
            continue
        for leaf, expected in zip(jax.tree.leaves(state.memory.teacher), jax.tree.leaves(left.params), strict=True):
            np.testing.assert_allclose(leaf, expected, rtol=1e-6)
    assert np.any(states["width_2"].params["classifier"] != left.params["classifier"])


def test_without_distillation_there_is_no_teacher_anywhere():
    stages = make(distillation=0.0)
    for name, state in first_states(stages).items():
        assert state.memory.teacher == ()
        assert "soft_loss" not in jax.eval_shape(stages[name].method.step, jax.random.key(0), state, batches())[1]


def test_channels_are_sorted_before_each_stage_of_the_width(states):
    """Once each, told of the expansions that were trained before."""
    for name in ("largest", "kernel", "depth_1", "depth_2"):
        assert (states[name].params["trained"] == -1).all()
    for name, count in (("width_1", 1), ("width_2", 2)):
        expected = np.broadcast_to(np.arange(3) >= 3 - count, (6, 3))
        np.testing.assert_array_equal(states[name].params["trained"], expected)


def test_one_program_serves_all_stages_with_a_teacher(stages, states):
    """Their steps are the same program, whatever they allow and at whatever rate, and their histories have one size."""
    programs = {
        jax.jit(stages[name].method.step).lower(jax.random.key(0), state, batches()).as_text()
        for name, state in states.items()
        if name != "largest"
    }
    assert len(programs) == 1
    assert {stages[name].room for name in STAGES} == {max(epochs for *_, epochs in STAGES.values())}


RATES = {"largest": 0.1, "kernel": 0.3, "depth_1": 0.02, "depth_2": 0.04, "width_1": 0.05, "width_2": 0.06}
SUBNETS = {"largest": 1, "kernel": 1, "depth_1": 2, "depth_2": 2, "width_1": 4, "width_2": 4}


@pytest.mark.parametrize("name", STAGES)
def test_every_stage_has_its_own_cosine_after_a_linear_rise(name):
    """Where all architectures answer the same, a step is the rate times the number of subnets times one gradient."""
    stages = make(setup=setup_of(NETWORK._replace(apply=apply_alike)), distillation=0.0)
    stage, train = stages[name], batches().train
    state, step = jax.jit(stage.method.init)(jax.random.key(0)), jax.jit(stage.method.step)

    @jax.jit
    @jax.grad
    def gradient_of(classifier):
        return cross_entropy(apply_alike({"classifier": classifier}, {}, train.images), train.labels)

    warmup = STEPS * (SHRINKING["warmup_epochs"] if name in ("kernel", "depth_2", "width_2") else 0)
    steps = STEPS * stage.epochs - warmup
    for number in range(STEPS * stage.epochs):
        before = np.asarray(state.params["classifier"])
        state, _ = step(jax.random.key(number), state, batches())
        share = (1 + np.cos(np.pi * (number - warmup) / steps)) / 2
        cosine = RATES[name] * (0.9 * share + 0.1)  # down to a tenth, as in WEIGHTS
        rate = cosine if number >= warmup else RATES[name] * number / warmup
        expected = before - rate * SUBNETS[name] * np.asarray(gradient_of(before))
        np.testing.assert_allclose(state.params["classifier"], expected, rtol=1e-4, atol=1e-6)


def test_a_stage_of_no_epochs_is_left_out_and_the_next_has_its_options():
    stages = make(kernel_epochs=0, depth_epochs=(0, 2), width_epochs=(0, 1))
    assert tuple(stages) == ("largest", "depth_2", "width_2", *SEARCH)
    states = first_states(stages)
    assert states["depth_2"].allowed["kernel"].all() and states["depth_2"].allowed["depth"].all()
    # Only the largest expansion had been trained, and the teacher is there from the second stage on.
    np.testing.assert_array_equal(states["width_2"].params["trained"], np.broadcast_to([0, 0, 1], (6, 3)))
    assert states["depth_2"].memory.teacher != ()


def test_a_part_that_has_no_choice_has_no_stage():
    settings = {"kernel_epochs": 0, "depth_epochs": (), "depth_learning_rates": ()}
    stages = make(setup=setup_of(kernels=(3,), depths=(2,)), **settings)
    assert tuple(stages) == ("largest", "width_1", "width_2", *SEARCH)


@pytest.mark.parametrize(
    ("method", "settings"),
    [("once_for_all", {}), ("joint", {"subnets": 2, "distillation": 1.0}), ("sandwich", {"subnets": 1})],
)
def test_three_subnets_are_judged_after_every_epoch(method, settings):
    """By a judge that adds up option numbers: those of the smallest, the middle and the largest are known."""
    asked = []

    def judge(architecture, *, calibrate=0):
        asked.append(calibrate)
        return sum(jnp.sum(options) for options in architecture.values()) / 100

    for name, stage in make(method, calibrate=3, **settings).items():
        if name in SEARCH:
            continue

        @jax.jit
        def judged(key, method=stage.method):
            state, accuracy = method.finish_epoch(key, method.init(key), 0, jnp.nan, judge)
            return accuracy, method.metrics(state)

        accuracy, found = judged(jax.random.key(0))
        choices = 6 + 6 + 2 + 1
        expected = {"smallest": 0, "middle": choices / 100, "largest": 2 * choices / 100}
        assert set(found) == {f"accuracy/{one}" for one in expected}
        for one, value in expected.items():
            np.testing.assert_allclose(found[f"accuracy/{one}"], value, rtol=1e-6)
        np.testing.assert_allclose(accuracy, expected["largest"], rtol=1e-6)
    assert set(asked) == {3}


@pytest.mark.parametrize("subnets", [1, 3])
def test_joint_training_allows_everything_from_the_first_step(subnets):
    """With one subnet and no teacher it is the supernet of SPOS, with the same draws."""
    stage = make("joint", subnets=subnets, distillation=0.0)["supernet"]
    state = jax.jit(stage.method.init)(jax.random.key(0))
    assert stage.epochs == EPOCHS and all(np.all(np.asarray(mask)) for mask in state.allowed.values())
    after, _ = jax.jit(stage.method.step)(jax.random.key(1), state, batches())
    other, _ = jax.jit(supernet_stage(setup_of(), WEIGHTS).method.step)(jax.random.key(1), state, batches())
    pairs = jax.tree.map(lambda *pair: np.allclose(*pair, rtol=1e-5), *jax.device_get((after.params, other.params)))
    same = all(jax.tree.leaves(pairs))
    assert same == (subnets == 1)


def test_the_present_largest_network_teaches_joint_training():
    """Where all architectures answer the same, its answers pull in no direction, but are counted."""
    steps = []
    for distillation in (0.0, 1.0):
        setup = setup_of(NETWORK._replace(apply=apply_alike))
        stage = make("joint", setup, subnets=2, distillation=distillation)["supernet"]
        state = jax.jit(stage.method.init)(jax.random.key(0))
        steps.append(jax.jit(stage.method.step)(jax.random.key(1), state, batches()))
    np.testing.assert_allclose(*(state.params["classifier"] for state, _ in steps), rtol=1e-5)
    assert "soft_loss" not in steps[0][1] and float(steps[1][1]["soft_loss"]) > 0


def test_the_sandwich_trains_both_ends_and_what_it_draws():
    """The largest kernels learn from the labels, the smallest from their answers: both move in every layer."""
    stage = make("sandwich", subnets=1)["supernet"]
    state = jax.jit(stage.method.init)(jax.random.key(0))
    after, metrics = jax.jit(stage.method.step)(jax.random.key(1), state, batches())
    moved = np.any(np.not_equal(after.params["kernels"], state.params["kernels"]), axis=-1)
    assert moved[:, 0].all() and moved[:, 2].all()
    assert set(metrics) == {"train_loss", "train_accuracy", "soft_loss"}


NO_REORDER = setup_of(NETWORK._replace(reorder=None))
ONE_KERNEL, ONE_DEPTH = setup_of(kernels=(3,)), setup_of(depths=(2,))


@pytest.mark.parametrize(
    ("setup", "settings", "message"),
    [
        (None, {"depth_epochs": (1,)}, "depth_epochs has 1 entries, .* has 2 options of depth beside the largest"),
        (None, {"width_learning_rates": (0.1,) * 3}, "width_learning_rates has 3 entries, .* give it 2"),
        (None, {"width_epochs": (2, 0)}, "width_epochs ends with 0, but the stage 'width_2' is the only one"),
        (ONE_KERNEL, {}, "kernel_epochs is 3, but the space 'elastic' has no choice between kernels; set it to 0"),
        (ONE_DEPTH, {}, "depth_epochs has 2 entries, but the space 'elastic' has 0 options"),
        (NO_REORDER, {}, "the first channels of wide ones, which .* needs; .* supernet.sharing 'slices'"),
    ],
)
def test_settings_that_do_not_fit_are_told(setup, settings, message):
    with pytest.raises(UserError, match=message):
        make("once_for_all", setup, **settings)


@pytest.mark.parametrize(
    ("method", "settings"),
    [("once_for_all", {}), ("joint", {"subnets": 1, "distillation": 0.0}), ("sandwich", {"subnets": 1})],
)
def test_options_have_to_be_nested(method, settings):
    blocks = product_space("blocks", {"blocks": ("a", "b")}, {"blocks": 2})
    with pytest.raises(UserError, match="'blocks' has no kernels and expansions that are parts of larger ones"):
        make(method, Setup(blocks, lambda paths=None: NETWORK, 3, 2), **settings)
