"""One-hot gates compute what the extracted network computes, whatever architectures share; sorting changes nothing."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.core.errors import UserError
from jaxnas.layers import backend
from jaxnas.networks.elastic_sharing import SHARINGS, elastic_kernel, groups, running_gates
from jaxnas.networks.elastic_supernet import elastic_supernet, regions
from jaxnas.networks.family import Images
from jaxnas.networks.mobilenet_v3 import MobileNetV3
from jaxnas.spaces.elastic import concrete, elastic_plan, elastic_space, hidden_options, map_sizes, squeezed_channels
from tests.networks.few_programs import (
    architectures,
    assert_close,
    normal,
    one_hot,
    one_program,
    perturbed,
    soft_gates,
)

IMAGES = Images(10, 12, 2, classes=3)
SETTINGS = {
    "stem": 4,
    "stem_stride": 1,
    "first": 4,
    "widths": (4, 6),
    "strides": (2, 2),
    "squeeze": (False, True),
    "hard_swish": (False, True),
    "final": 8,
    "head": 6,
    "kernels": (1, 3, 5),
    "expansions": (1.0, 2.0),
    "depths": (1, 3),
    "resolutions": (7, 9, 12, 16),
    "divisor": 2,
}
CHANGES = {
    "many sizes": {},
    # One size and no fixed block; the first block of a stage keeps the shape and is alone.
    "one size": {
        "first": 0,
        "widths": (4,),
        "strides": (1,),
        "squeeze": (True,),
        "hard_swish": (False,),
        "kernels": (3, 5),
        "expansions": (1.5, 2.0, 4.0),
        "depths": (1,),
        "resolutions": (10,),
        "stem_stride": 2,
    },
    "small": {"widths": (4,), "strides": (2,), "squeeze": (True,), "hard_swish": (False,), "resolutions": (5, 8)},
}


def plan_of(kind):
    return elastic_plan(**SETTINGS | CHANGES[kind])


@functools.cache
def make(kind, sharing="slices", **settings):
    plan = plan_of(kind)
    return plan, elastic_space(plan), elastic_supernet(plan, IMAGES, sharing=sharing, **settings)


@functools.cache
def inputs(kind, sharing="slices"):
    """Weights that no two places share, scales, shifts and transforms away from where they start; images; float64."""

    network = make(kind, sharing)[2]
    return perturbed(network, by=0.2), normal(4, *IMAGES.shape)


def score(logits):
    return jnp.sum(jnp.sin(logits))


def compiled(function, implementation="library"):
    """A compiled (...) -> (value, gradients of its score for everything). The library's convolutions compile faster."""

    def loss(*arguments):
        value = function(*arguments)
        return score(value), value

    traces = []

    def run(*arguments):
        traces.append(arguments)
        assert len(traces) == 1  # however many architectures run
        with backend.use(implementation):
            gradients, value = jax.grad(loss, argnums=tuple(range(len(arguments))), has_aux=True)(*arguments)
        return value, gradients

    return one_program(run)


@functools.cache
def supernet_gradients(kind, sharing="slices", implementation="library", **settings):
    """(params, images, gates) -> logits, gradients for all three."""
    network = make(kind, sharing, **settings)[2]
    return compiled(lambda params, images, gates: network.apply(params, gates, images), implementation)


def alone(kind, sharing, architecture):
    """(params, images) -> logits in training mode of the network that is extracted from the params."""
    plan, _, supernet = make(kind, sharing)
    network = MobileNetV3(plan, concrete(plan, architecture), IMAGES.classes)

    def run(params, images):
        variables = supernet.extract(params, architecture)
        return network.apply(variables, images, train=True, mutable=["batch_stats"])[0][0]

    return run


def drawn(space, *seeds):
    """The gates of random architectures."""
    return [one_hot(space, architecture) for architecture in architectures(space, seeds)]


def assert_near(actual, expected):
    assert_close(actual, expected, rtol=1e-9, atol=1e-10)  # with zeros in between


CASES = [
    *[("many sizes", "slices", seed) for seed in range(4)],
    *[("small", sharing, 0) for sharing in SHARINGS],
    ("one size", "slices", 0),
]


@pytest.mark.parametrize(("kind", "sharing", "seed"), CASES)
def test_one_hot_gates_are_the_extracted_network_and_its_gradients(kind, sharing, seed):
    """In training mode; the gradients are those for the shared weights, through the extraction, and for the images."""
    with jax.enable_x64(True):
        _, space, _ = make(kind, sharing)
        params, images = inputs(kind, sharing)
        (architecture,) = architectures(space, [seed])
        if kind == "many sizes":
            architecture["resolution"] = np.array([seed], np.int32)
        expected = compiled(alone(kind, sharing, architecture))(params, images)
        gates = one_hot(space, architecture)
        logits, gradients = supernet_gradients(kind, sharing)(params, images, gates)
        assert_near((logits, gradients[:2]), expected)


@pytest.mark.parametrize("sharing", SHARINGS)
def test_soft_gates_have_the_gradient_of_differences(sharing):
    """Along one direction in all gates."""
    with jax.enable_x64(True):
        space, (params, images) = make("small", sharing)[1], inputs("small", sharing)
        gates, direction = soft_gates(space), soft_gates(space, seed=4)
        run = supernet_gradients("small", sharing)

        def value(step):
            moved = {part: gates[part] + step * direction[part] for part in gates}
            return np.sum(np.sin(run(params, images, moved)[0]))

        step = 1e-6  # below it rounding, above it kinks of the activations
        gates_bar = run(params, images, gates)[1][2]
        exact = sum(np.vdot(gates_bar[part], direction[part]) for part in gates)
        np.testing.assert_allclose(exact, (value(step) - value(-step)) / (2 * step), rtol=1e-6)


@pytest.mark.parametrize("settings", [{"implementation": "cpu"}, {"recompute": True}, {"paths": 1}], ids=str)
def test_evaluations_agree(settings):
    """Under soft gates, where everything runs in each."""
    with jax.enable_x64(True):
        space, (params, images) = make("small")[1], inputs("small")
        expected = supernet_gradients("small")(params, images, soft_gates(space))
        assert_near(supernet_gradients("small", **settings)(params, images, soft_gates(space)), expected)


def test_blocks_that_are_left_out_are_missed_by_their_gates_alone():
    with jax.enable_x64(True):
        space, (params, images) = make("small")[1], inputs("small")
        gates = one_hot(space, space.parse("kernel:1+3+5;expansion:1+2+1;depth:1;resolution:5"))
        logits, (params_bar, images_bar, _) = supernet_gradients("small")(params, images, gates)
        actual = supernet_gradients("small", paths=1)(params, images, gates)
        assert_near((actual[0], actual[1][:2]), (logits, (params_bar, images_bar)))
        np.testing.assert_array_equal(actual[1][2]["depth"], 0.0)


def test_architectures_are_a_batch_of_one_program():
    """Mapped over gates they are what they are one after another, with a program that is traced once for all."""
    with jax.enable_x64(True):
        space, (params, images) = make("small")[1], inputs("small")
        run, several = supernet_gradients("small"), drawn(space, *range(4))
        expected = [run(params, images, gates) for gates in several]
        mapped = jax.jit(jax.vmap(make("small")[2].apply, in_axes=(None, 0, None)))
        actual = mapped(params, jax.tree.map(lambda *rows: np.stack(rows), *several), images)
        np.testing.assert_allclose(actual, [logits for logits, _ in expected], rtol=1e-9, atol=1e-11)


def test_padding_examples_change_nothing():
    """With `calibrate` the answers to the first examples are the same whatever comes after them."""
    with jax.enable_x64(True):
        space, (params, images) = make("small")[1], inputs("small")
        run, (gates,), kept = one_program(make("small", calibrate=2)[2].apply), drawn(space, 5), images[:2]
        found = [run(params, gates, np.concatenate([kept, factor * images[2:]]))[:2] for factor in (1, 9)]
        np.testing.assert_allclose(*found, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("sharing", SHARINGS)
def test_active_weights_are_those_that_an_architecture_has(sharing):
    """With paths, others are marked and have no gradient; what is nested is one network, which is marked as a whole."""
    with jax.enable_x64(True):
        plan, space, network = make("small", sharing)
        (gates,) = drawn(space, 1)
        gradient = supernet_gradients("small", sharing)(*inputs("small", sharing), gates)[1][0]
        active = one_program(network.active)(gates)
        idle = jax.tree.map(lambda took_part, bar: np.any(np.where(took_part, False, bar != 0)), active, gradient)
        assert not any(jax.tree.leaves(idle))  # which also compares the trees
        blocks = active.pop("blocks")
        assert all(jax.tree.leaves(active))
        if sharing != "paths":
            assert all(jax.tree.leaves(blocks))
            return
        runs = one_program(functools.partial(running_gates, plan))(gates)
        pairs = np.einsum("l,lk,le->lke", runs, gates["kernel"], gates["expansion"]) > 0
        assert pairs.sum() == runs.sum()
        for group in groups(plan):
            for leaf in jax.tree.leaves(blocks[group.name]):
                np.testing.assert_array_equal(np.squeeze(leaf, tuple(range(3, leaf.ndim))), pairs[group.rows])


def test_a_size_is_the_transformed_centre_of_the_next_larger_one():
    """By matrices, channel after channel; without transforms it is the centre of the largest."""
    generator = np.random.default_rng(0)
    kernel, five, three = (generator.normal(size=shape) for shape in ((7, 7, 2), (25, 25), (9, 9)))
    with jax.enable_x64(True):
        transforms = {"to_5": five, "to_3": three}
        cut_out = jax.jit(functools.partial(elastic_kernel, (3, 5, 7)))
        expected = {7: kernel, 5: np.zeros((7, 7, 2)), 3: np.zeros((7, 7, 2))}
        for channel in range(2):
            middle = ((np.eye(25) + five) @ kernel[1:6, 1:6, channel].ravel()).reshape(5, 5)
            expected[5][1:6, 1:6, channel] = middle
            expected[3][2:5, 2:5, channel] = ((np.eye(9) + three) @ middle[1:4, 1:4].ravel()).reshape(3, 3)
        for option, size in enumerate((3, 5, 7)):
            gates = np.eye(3)[option]
            np.testing.assert_allclose(cut_out(kernel, transforms, gates), expected[size], atol=1e-12)
            cut = np.pad(np.ones((size, size, 1)), [((7 - size) // 2,) * 2] * 2 + [(0, 0)])
            np.testing.assert_array_equal(cut_out(kernel, {}, gates), kernel * cut)


def test_transforms_begin_as_the_identity():
    """To which they are added; without them a size is the centre of the largest."""
    init = SHARINGS["slices"](plan_of("small")).init
    transforms = one_program(lambda key: [own["transforms"] for own in init(key).values()])(jax.random.key(0))
    assert {path[-1].key for path, _ in jax.tree.leaves_with_path(transforms)} == {"to_1", "to_3"}
    assert not any(leaf.any() for leaf in jax.tree.leaves(transforms))


@pytest.mark.parametrize("resolution", range(4))
def test_regions_have_the_sizes_of_the_maps(resolution):
    plan, space, _ = make("many sizes")
    gates = {part: np.eye(options)[[0] * choices] for part, (choices, options) in space.shapes.items()}
    found = jax.jit(functools.partial(regions, plan))(gates | {"resolution": np.eye(4)[[resolution]]})
    sizes, largest = (map_sizes(plan, plan.resolutions[option]) for option in (resolution, -1))
    for region, size, most in zip(found, sizes, largest, strict=True):
        expected = np.zeros((most, most))
        expected[:size, :size] = 1
        np.testing.assert_array_equal(region, expected)
    plan, space, _ = make("one size")
    assert set(regions(plan, {})) == {None}


TRAINED = {"largest": [False, False, True], "two": [False, True, True], "all": [True, True, True], "none": [False] * 3}


@functools.cache
def sorted_weights(trained):
    """The plan, the params before and after sorting; three expansions, a squeeze-and-excitation."""
    plan, space, network = make("one size")
    params, _ = inputs("one size")
    rows = {"expansion": np.array([TRAINED[trained]] * space.shapes["expansion"][0])}
    return plan, params, one_program(network.reorder)(params, rows)


@pytest.mark.parametrize("trained", TRAINED)
def test_sorting_channels_keeps_the_function_of_what_is_trained(trained):
    with jax.enable_x64(True):
        _, space, _ = make("one size")
        _, images = inputs("one size")
        plan, before, after = sorted_weights(trained)
        run = supernet_gradients("one size")
        for option, kept in enumerate(TRAINED[trained]):
            widths = "+".join([f"{plan.expansions[option]:g}"] * len(plan.layers))
            gates = one_hot(space, space.parse(f"kernel:3;expansion:{widths};depth:1;resolution:10"))
            expected, actual = run(before, images, gates)[0], run(after, images, gates)[0]
            if kept or option == 2:  # the largest has all
                np.testing.assert_allclose(actual, expected, rtol=1e-9, atol=1e-11)
            else:
                assert np.max(np.abs(actual - expected)) > 1e-3


@pytest.mark.parametrize("trained", TRAINED)
def test_importance_falls_within_the_segments_between_trained_widths(trained):
    with jax.enable_x64(True):
        plan, _, after = sorted_weights(trained)
        counts = hidden_options(plan, 0)
        for part, widths in (
            ("projection", counts),
            ("excite", tuple(squeezed_channels(plan, count) for count in counts)),
        ):
            own = after["blocks"][groups(plan)[0].name][part]["kernel"][0]
            ends = {width for width, kept in zip(widths, TRAINED[trained], strict=True) if kept}
            for segment in np.split(np.abs(own).sum(axis=1), sorted(ends - {len(own)})):
                assert np.all(np.diff(segment) <= 0)


def test_nothing_is_sorted_where_nothing_is_nested():
    sorts = {sharing for sharing in SHARINGS if make("small", sharing)[2].reorder is not None}
    assert sorts == {"slices", "superkernel"}


@pytest.mark.parametrize("sharing", SHARINGS)
def test_extracted_variables_are_those_of_the_network(sharing):
    plan, space, supernet = make("small", sharing)
    (architecture,) = architectures(space, [2])
    network = MobileNetV3(plan, concrete(plan, architecture), IMAGES.classes)
    variables = jax.eval_shape(lambda key: supernet.extract(supernet.init(key), architecture), jax.random.key(0))
    image = jnp.zeros((1, *IMAGES.shape))
    expected = jax.eval_shape(functools.partial(network.init, train=False), jax.random.key(0), image)
    assert jax.tree.map(lambda leaf: leaf.shape, variables) == jax.tree.map(lambda leaf: leaf.shape, expected)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"bare_gates": True}, r"method\.bare_gates has to be False"),
        ({"sharing": "slice"}, "unknown sharing 'slice'.*slices"),
    ],
)
def test_mistaken_settings(settings, message):
    with pytest.raises(UserError, match=message):
        elastic_supernet(plan_of("small"), IMAGES, **settings)
