"""Superkernels: one-hot gates cut the narrow network out of the widest, and costs add up exactly."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.search import spaces
from jaxnas.core.errors import UserError
from jaxnas.costs.counting import Cost, network_cost
from jaxnas.layers import backend
from jaxnas.networks import superkernel_family
from jaxnas.networks.chain_supernet import chain_supernet
from jaxnas.networks.family import Images
from jaxnas.networks.superkernel_supernet import layer_masks, subsampled, superkernel_supernet
from jaxnas.spaces.superkernel import chosen_resolution, concrete_chain, superkernel_plan, superkernel_space
from tests.networks.few_programs import (
    architectures,
    assert_close,
    normal,
    one_hot,
    one_program,
    perturbed,
    soft_gates,
)

IMAGES = Images(8, 8, 2, classes=3)
SETTINGS = {
    "stem": 4,
    "stem_stride": 1,
    "first": 4,
    "widths": (4, 8),
    "depths": (1, 3),
    "strides": (1, 2),
    "head": 6,
    "kernels": (3, 5),
    "expansions": (0, 1, 2.5),
    "width_fractions": (1.0,),
    "resolutions": (8,),
}
CHANGES = {
    "single_path": {},
    # The stages have equal channels, and so a residual between them, under some of their widths.
    "widths": {"first": 0, "strides": (1, 1), "width_fractions": (0.5, 1.0), "kernels": (1, 3)},
    "fbnet_v2": {
        "depths": (1, 1),
        "width_fractions": (0.5, 0.75, 1.0),
        "expansions": (1, 2),
        "resolutions": (6, 8),
        "kernels": (1, 3),
    },
}


def published(constant):
    return {field: value for field, value in getattr(spaces, constant).items() if field != "name"}


FAMILIES = {
    f"{name}{suffix}": (published(f"{name}{suffix}"), size)
    for name in ("SINGLE_PATH", "FBNET_V2")
    for suffix, size in {"": 224, "_32": 32, "_8": 8}.items()
}


@functools.cache
def make(kind, **settings):
    plan = superkernel_plan(**SETTINGS | CHANGES[kind])
    return plan, superkernel_space(plan), superkernel_supernet(plan, IMAGES, **settings)


@functools.cache
def family_of(name):
    settings, size = FAMILIES[name]
    images = Images(size, size, 3, 10 if size < 224 else 1000)
    return superkernel_family.superkernel(images, **settings), images


@functools.cache
def component_cost(name, module, input_shape, bits):
    del name, bits
    return network_cost(module, input_shape)


@functools.cache
def inputs(kind):
    """Weights, scales and shifts away from where they start, and images; float64."""

    return perturbed(make(kind)[2]), normal(4, *IMAGES.shape)


def score(logits):
    return jnp.sum(jnp.sin(logits))


@functools.cache
def value_and_gradients(kind, implementation="library", **settings):
    """Compiled: (params, gates, images) -> logits, gradients. The library's convolutions compile faster."""
    network = make(kind, **settings)[2]

    def loss(params, gates, images):
        logits = network.apply(params, gates, images)
        return score(logits), logits

    def run(params, gates, images):
        with backend.use(implementation):
            gradients, logits = jax.grad(loss, argnums=(0, 1), has_aux=True)(params, gates, images)
        return logits, *gradients

    return one_program(run)


def assert_near(actual, expected):
    assert_close(actual, expected, rtol=1e-9, atol=1e-11)  # with zeros in between


def cut(plan, chain, params):
    """The weights of the narrow chain: the first channels and the kernels' centres of the widest network's weights."""
    name = str(plan.chain.candidates[0])
    layers = []
    for layer, own in zip(chain.layers, params["layers"], strict=True):
        if layer.fixed.kind != "mbconv":
            layers.append(own if layer.fixed.kind == "separable" else {})
            continue
        inner, edge = layer.fixed.hidden(layer.channels_in), (plan.kernels[-1] - layer.fixed.kernel) // 2
        taps = slice(edge, edge + layer.fixed.kernel)
        ranges = {
            "expansion": (slice(layer.channels_in), slice(inner)),
            "depthwise": (taps, taps, slice(inner)),
            "projection": (slice(inner), slice(layer.channels)),
        }
        weights = {
            part: {leaf: value[of if leaf == "kernel" else of[-1]] for leaf, value in own[name][part].items()}
            for part, of in ranges.items()
        }
        layers.append({str(layer.fixed): weights})
    head = params["head"] | {"kernel": params["head"]["kernel"][: chain.layers[-1].channels]}
    return params | {"layers": layers, "head": head}


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("single_path", "kernel:3+5+3+5;expansion:0+1+2.5+0"),
        ("single_path", "kernel:5+3+3+5;expansion:2.5+1+0+1"),
        ("widths", "kernel:3+1+1+3;expansion:1+2.5+1+0;width:1+0.5"),
        ("fbnet_v2", "kernel:1+3;expansion:2+1;width:0.75+0.5;resolution:6"),
    ],
)
def test_one_hot_gates_cut_out_the_narrow_network(kind, text):
    """Its logits and, zero elsewhere, its gradients; a chain of these blocks has no masks and no other weights."""
    with jax.enable_x64(True):
        plan, space, _ = make(kind)
        params, images = inputs(kind)
        architecture = space.parse(text)
        chain, size = concrete_chain(plan, architecture), chosen_resolution(plan, architecture)
        narrow = chain_supernet(chain, IMAGES)

        def loss(params):
            with backend.use("library"):
                logits = narrow.apply(cut(plan, chain, params), {}, subsampled(images, size))
            return score(logits), logits

        gradient, expected = one_program(jax.grad(loss, has_aux=True))(params)
        logits, params_bar, _ = value_and_gradients(kind)(params, one_hot(space, architecture), images)
        assert_near((logits, params_bar), (expected, gradient))


@pytest.mark.parametrize(
    ("widths", "adds"), [("0.5+0.5", 0.0), ("1+0.5", 1.0), ("0.5+1", 0.0), ("1+1", 0.0)], ids=lambda value: str(value)
)
def test_a_first_layer_adds_its_input_where_the_widths_are_equal(widths, adds):
    """Stages of 2 or 4 and of 4 or 8 channels, one after the other at stride 1."""
    plan, space, _ = make("widths")
    text = f"kernel:3+3+3+3;expansion:1+1+0+1;width:{widths}"
    gates = one_hot(space, space.parse(text))
    residuals = jax.jit(lambda gates: [layer_masks(plan, number, gates).residual for number in (1, 2, 3)])
    np.testing.assert_array_equal(residuals(gates), [adds, 1.0, 1.0])


def test_masks_are_sums_of_the_options_masks():
    plan, _, _ = make("fbnet_v2")
    gates = {
        "kernel": np.array([[9.0, 9.0], [0.25, 0.5]]),
        "expansion": np.array([[9.0, 9.0], [0.5, 2.0]]),
        "width": np.array([[0.0, 0.0, 1.0], [1.0, 2.0, 4.0]]),
    }
    masks = one_program(functools.partial(layer_masks, plan, 2))(gates)
    ring = np.full((3, 3), 0.5)
    ring[1, 1] = 0.75
    np.testing.assert_array_equal(masks.kernel[..., 0], ring)
    np.testing.assert_array_equal(masks.hidden, [2.5] * 4 + [2.0] * 4)
    np.testing.assert_array_equal(masks.branch, [7, 7, 7, 7, 6, 6, 4, 4])
    assert masks.residual == 0  # stride 2


@pytest.mark.parametrize("kind", CHANGES)
def test_soft_gates_have_the_gradient_of_differences(kind):
    """Along one direction in all gates."""
    with jax.enable_x64(True):
        _, space, network = make(kind)
        params, images = inputs(kind)
        gates = soft_gates(space)
        direction = {part: normal(*shape, seed=5) for part, shape in space.shapes.items()}

        @one_program
        def value(step):
            moved = jax.tree.map(lambda gate, change: gate + step * change, gates, direction)
            with backend.use("library"):
                return score(network.apply(params, moved, images))

        step = 1e-6  # below it rounding, above it kinks of the activations
        slope = (value(step) - value(-step)) / (2 * step)
        _, _, gates_bar = value_and_gradients(kind)(params, gates, images)
        exact = sum(np.vdot(gates_bar[part], direction[part]) for part in gates)
        np.testing.assert_allclose(exact, slope, rtol=1e-6)


@pytest.mark.parametrize("settings", [{"implementation": "cpu"}, {"recompute": True}], ids=str)
def test_evaluations_agree(settings):
    with jax.enable_x64(True):
        space = make("widths")[1]
        params, images = inputs("widths")
        gates = soft_gates(space)
        expected = value_and_gradients("widths")(params, gates, images)
        assert_near(value_and_gradients("widths", **settings)(params, gates, images), expected)


def test_gates_of_options_that_a_layer_does_not_have_change_nothing():
    with jax.enable_x64(True):
        space = make("single_path")[1]
        params, images = inputs("single_path")
        gates = soft_gates(space)
        noise = np.where(space.allowed["expansion"], 0.0, 17.0)
        assert noise.sum() > 0
        run = value_and_gradients("single_path")
        expected = run(params, gates, images)
        actual = run(params, gates | {"expansion": gates["expansion"] + noise}, images)
        jax.tree.map(np.testing.assert_array_equal, actual, expected)
        skipping = expected[2]["expansion"][:, 0]
        np.testing.assert_array_equal(skipping[~space.allowed["expansion"][:, 0]], 0.0)


def test_a_path_runs_the_image_size_of_the_largest_gate_alone():
    with jax.enable_x64(True):
        space = make("fbnet_v2")[1]
        params, images = inputs("fbnet_v2")
        gates = soft_gates(space) | {"resolution": np.array([[0.7, 0.0]])}
        logits, params_bar, gates_bar = value_and_gradients("fbnet_v2")(params, gates, images)
        kept = gates_bar | {"resolution": gates_bar["resolution"] * np.array([[1.0, 0.0]])}
        actual = value_and_gradients("fbnet_v2", paths=1)(params, gates, images)
        assert_near(actual, (logits, params_bar, kept))


def test_the_tree_of_active_weights_is_true_everywhere():
    _, space, network = make("fbnet_v2")
    active = one_program(network.active)(one_hot(space, *architectures(space, [0])))
    assert jax.tree.structure(active) == jax.tree.structure(jax.eval_shape(network.init, jax.random.key(0)))
    assert all(bool(leaf) for leaf in jax.tree.leaves(active))


def test_importance_in_closed_form():
    """All weights 2: four times the number of weights that an option adds."""
    _, space, network = make("widths")
    params = jax.tree.map(lambda leaf: np.full(leaf.shape, 2.0), jax.eval_shape(network.init, jax.random.key(0)))
    importance = jax.jit(network.importance)(params)
    hidden = np.array([10, 10, 20, 20])  # 2.5 of 4, 4, 8 and 8
    np.testing.assert_array_equal(importance["kernel"], 4 * np.outer(hidden, [0, 9 - 1]))
    np.testing.assert_array_equal(importance["expansion"], 4 * 9 * np.outer([4, 4, 8, 8], [0, 1, 1.5]))
    np.testing.assert_array_equal(importance["width"], 4 * np.array([[0, 2 * 10], [0, 4 * (10 + 20 + 20)]]))
    assert {part: values.shape for part, values in importance.items()} == dict(space.shapes)


def test_image_sizes_add_no_weights():
    _, space, network = make("fbnet_v2")
    with jax.enable_x64(True):
        importance = jax.jit(network.importance)(inputs("fbnet_v2")[0])
    assert {part: values.shape for part, values in importance.items()} == dict(space.shapes)
    np.testing.assert_array_equal(importance["resolution"], 0.0)


def test_importance_is_learned_by_the_weights_that_a_gate_hides():
    """So that an option that is off can come back (Stamoulis et al. 2019)."""
    network = make("single_path")[2]
    with jax.enable_x64(True):
        params, _ = inputs("single_path")
        gradient = one_program(jax.grad(lambda params: network.importance(params)["kernel"][0, 1]))(params)
        kernel, bar = (tree["layers"][1]["mbconv_k5_e2.5"]["depthwise"]["kernel"] for tree in (params, gradient))
        ring = np.ones((5, 5, 1))
        ring[1:4, 1:4] = 0
        np.testing.assert_allclose(bar, 2 * kernel * ring, rtol=1e-12)


@pytest.mark.parametrize(
    ("pixels", "size", "rows"), [(4, 4, [0, 1, 2, 3]), (4, 2, [1, 3]), (8, 3, [1, 4, 6]), (5, 1, [2])]
)
def test_subsampling_takes_the_nearest_pixels(pixels, size, rows):
    images = np.arange(2 * pixels * pixels * 3).reshape(2, pixels, pixels, 3)
    np.testing.assert_array_equal(subsampled(images, size), images[:, rows][:, :, rows])


def test_bare_gates_are_a_mistake():
    with pytest.raises(UserError, match=r"method\.bare_gates has to be False"):
        make("single_path", bare_gates=True)


@pytest.mark.parametrize(
    ("images", "changes", "message"),
    [
        (Images(8, 6, 3, 10), {}, "go up to 8, but images of 8x6 pixels .* at most 6"),
        (Images(8, 8, 3, 10), {"resolutions": (1, 8)}, "at least 2x2 pixels, not 1x1"),
    ],
)
def test_mistaken_resolutions(images, changes, message):
    with pytest.raises(UserError, match=message):
        superkernel_family.superkernel(images, **SETTINGS | changes)


@pytest.mark.parametrize("name", [name for name in FAMILIES if not name.endswith("_32")])
def test_costs_are_those_of_the_chosen_pieces_and_a_constant(name):
    """Exactly: a network costs what its terms' pieces do, and a rest that is the same for every architecture."""
    family, images = family_of(name)
    terms, bases = family.terms(), set()
    for architecture in architectures(family.space, range(4 if name.endswith("_8") else 2)):
        whole = network_cost(family.network(architecture, None), images.shape)
        pieces = [
            component_cost(*piece)
            for term in terms
            for piece in term.pieces[tuple(int(architecture[part][row]) for part, row in term.choices)]
        ]
        bases.add(
            Cost(
                whole.params - sum(cost.params for cost in pieces),
                whole.mult_adds - sum(cost.mult_adds for cost in pieces),
            )
        )
    assert len(bases) == 1
    base, classifier = bases.pop(), FAMILIES[name][0]["head"] * images.classes
    if name.startswith("FBNET_V2"):  # the head and what comes before the stages have terms, too
        assert base == Cost(classifier + images.classes, classifier)


def test_terms_have_an_axis_for_each_option():
    for name in ("SINGLE_PATH_8", "FBNET_V2_8"):
        family, _ = family_of(name)
        for term in family.terms():
            assert term.pieces.shape == tuple(family.space.shapes[part][1] for part, _ in term.choices)
            assert len(set(term.choices)) == len(term.choices)
            for options in np.ndindex(term.pieces.shape):
                have = all(
                    family.space.allowed[part][row, option]
                    for (part, row), option in zip(term.choices, options, strict=True)
                )
                skipped = any(
                    part == "expansion" and option == 0 for (part, _), option in zip(term.choices, options, strict=True)
                )
                assert bool(term.pieces[options]) == (have and not skipped)


def test_published_sizes():
    """MobileNetV2 (Sandler et al. 2018) is the network of kernels 3 and expansions 6, as the space of chains has it."""
    settings = published("SINGLE_PATH") | {"widths": (24, 32, 64, 96, 160, 320), "depths": (2, 3, 4, 3, 3, 1)}
    images = Images(224, 224, 3, 1000)
    family = superkernel_family.superkernel(images, **settings)
    architecture = family.space.parse(f"kernel:{'+'.join('3' * 16)};expansion:{'+'.join('6' * 16)}")
    assert network_cost(family.network(architecture, None), images.shape) == Cost(3_504_872, 300_774_272)
    single_path, _ = family_of("SINGLE_PATH")
    assert single_path.space.size == (2 * 2) ** 6 * (2 * 3) ** 15  # the first layers of six stages cannot be skipped


@pytest.mark.parametrize("name", ["SINGLE_PATH", "FBNET_V2"])
def test_superkernels_for_small_images_are_the_large_ones_with_fewer_strides(name):
    large, small = (family_of(variant)[0] for variant in (name, f"{name}_32"))
    assert small.rows == large.rows and small.space.size == large.space.size


def test_the_network_of_an_architecture_reads_subsampled_images():
    family, images = family_of("FBNET_V2_8")
    text = "kernel:3+5+3+5;expansion:1.5+3+3+0;width:0.5+1;resolution:"
    small, large = (family.network(family.space.parse(f"{text}{size}"), None) for size in (6, 8))
    pixels = normal(2, *images.shape)

    @jax.jit
    def run(pixels):
        variables = small.init(jax.random.key(1), pixels, train=False)
        inner = {name: tree["network"] for name, tree in variables.items()}
        chosen = np.array([0, 2, 3, 4, 6, 7])
        cropped = pixels[:, chosen][:, :, chosen]
        return small.apply(variables, pixels, train=False), large.apply(inner, cropped, train=False)

    (logits, auxiliary), (expected, _) = run(pixels)
    np.testing.assert_allclose(logits, expected, rtol=1e-6)  # the same sums, compiled twice
    assert auxiliary is None and logits.shape == (2, 10)
