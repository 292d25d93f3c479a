"""Every substitute is the convolution with its explicit kernel, keeps the variance, and is what its definition says."""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.core.errors import UserError
from jaxnas.layers.convolution import convolution
from jaxnas.layers.substitutes import KINDS
from jaxnas.layers.substitutes.cosine import permutations
from jaxnas.layers.substitutes.hashing import hash_of, positions, slots, spread
from jaxnas.layers.substitutes.kinds import Dense
from jaxnas.layers.substitutes.tensors import axes

CASES = {
    "3x3": (Dense((3, 3), 8, 16), 1, None),
    "1x1": (Dense((1, 1), 16, 8), 1, None),
    "3x3 stride 2": (Dense((3, 3), 8, 12, gain=2.0), 2, None),
}
PADDED = {
    "1x3 padded": (Dense((1, 3), 8, 12), 2, ((0, 0), (2, 1))),
    "1x1 padded": (Dense((1, 1), 8, 12), 2, ((1, 0), (0, 1))),
}
OWN_PADDING = ("hashed", "separable", "shuffle")  # the others pad as one of these does
VALID = ((0, 0), (0, 0))


def build(kind, dense, share=0.37):
    """The substitute whose number lies at this share of its bounds, by default one that divides nothing."""
    least, most = KINDS[kind].bounds(dense)
    return KINDS[kind].build(dense, least + int(share * (most - least)))


@pytest.mark.parametrize(("kind", "case"), [*product(KINDS, CASES), *product(OWN_PADDING, PADDED)])
def test_substitute_is_the_convolution_with_its_kernel(kind, case):
    """In values and in the gradients for weights and images; and it learns as many numbers as it says."""
    dense, stride, padding = (CASES | PADDED)[case]
    substitute = build(kind, dense)

    def own(weights, images):
        return substitute.apply(weights, images, stride, padding)

    def explicit(weights, images):
        kernel = substitute.kernel(weights)
        assert kernel.shape == (*dense.size, dense.inputs, dense.features)
        return convolution(images, kernel, stride=stride, padding=padding) + weights.get("bias", 0.0)

    @jax.jit
    def compared(key):
        weights = {name: leaf + 0.1 if name == "bias" else leaf for name, leaf in substitute.init(key).items()}
        assert substitute.params == sum(leaf.size for leaf in weights.values())
        images = jax.random.normal(key, (2, 5, 6, dense.inputs))
        values, pulls = zip(*(jax.vjp(function, weights, images) for function in (own, explicit)), strict=True)
        return values, [pull(jnp.cos(values[0])) for pull in pulls]

    for a, b in compared(jax.random.key(0)):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-5), a, b)


@pytest.mark.parametrize(("kind", "case"), [*product(KINDS, ["3x3 stride 2"]), ("acdc", "1x1")])
def test_initial_outputs_have_the_variance_of_the_dense_layer(kind, case):
    """Over 1000 draws of weights and of white images, where the kernel sees no padding: within four standard errors."""
    dense, _, _ = CASES[case]
    substitute = build(kind, dense)

    def mean_square(key):
        images = jax.random.normal(jax.random.fold_in(key, 0), (4, *dense.size, dense.inputs))
        return jnp.mean(substitute.apply(substitute.init(key), images, 1, VALID) ** 2)

    squares = np.asarray(jax.jit(jax.vmap(mean_square))(jax.random.split(jax.random.key(2), 1000)))
    error = np.std(squares) / len(squares) ** 0.5
    assert error < 0.05 * dense.gain
    assert abs(np.mean(squares) - dense.gain) < 4 * error


def finalised(number, salt):
    """MurmurHash3's finaliser in whole numbers."""
    number ^= salt
    number = (number ^ number >> 16) * 0x85EBCA6B % 2**32
    number = (number ^ number >> 13) * 0xC2B2AE35 % 2**32
    return number ^ number >> 16


def slot(hashing, position):
    row, column = divmod(position, hashing.columns)
    for turn, salt in enumerate(hashing.salts):
        if turn % 2 == 0:
            row = (row + finalised(column, salt)) % hashing.rows
        else:
            column = (column + finalised(row, salt)) % hashing.columns
    return (row * hashing.columns + column) % hashing.bank


def read_by(hashing):
    """The number that each position reads."""
    return np.asarray(jax.jit(slots, static_argnums=0)(hashing)).reshape(-1)


HASHES = [((3, 3, 4, 6), 20), ((3, 3, 5), 7), ((7, 1), 3), ((4, 6), 24), ((5, 5), 1)]


@pytest.mark.parametrize(("shape", "bank"), HASHES)
def test_hash_is_its_definition_even_and_inverted(shape, bank):
    hashing = hash_of(shape, bank)
    elements = np.prod(shape)
    read = read_by(hashing)
    np.testing.assert_array_equal(read, [slot(hashing, position) for position in range(elements)])
    counts = np.bincount(read, minlength=bank)
    assert counts.max() - counts.min() <= 1
    permutation = read_by(hashing._replace(bank=hashing.elements))
    undone = jax.jit(positions, static_argnums=0)(hashing, permutation)
    np.testing.assert_array_equal(undone, np.arange(elements))


@pytest.mark.parametrize(("shape", "bank"), HASHES)
def test_gathered_gradient_of_a_bank_is_the_scattered_one(shape, bank):
    hashing = hash_of(shape, bank)

    @jax.jit
    def compared(key):
        bank, cotangent = jax.random.normal(key, (hashing.bank,)), jax.random.normal(key, (hashing.elements,))
        expected, scatter = jax.vjp(lambda bank: bank[slots(hashing).reshape(-1)], bank)
        actual, gather = jax.vjp(lambda bank: spread(hashing, bank), bank)
        return (actual, expected), (gather(cotangent), scatter(cotangent))

    for a, b in compared(jax.random.key(0)):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_hashes_of_different_layers_are_unrelated():
    """Two positions that share a number in one layer do so in another no more often than any two do."""
    shape, banks = (32, 64), range(200, 210)
    read = [read_by(hash_of(shape, bank)) for bank in banks]
    pairs = np.random.default_rng(0).integers(2048, size=(200_000, 2))
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    both = [one[pairs[:, 0]] == one[pairs[:, 1]] for one in read]
    once = np.mean(both)
    twice = np.mean([np.mean(a & b) for number, a in enumerate(both) for b in both[:number]])
    expected = once**2 * len(pairs) * 45  # as many pairs of pairs, of 45 pairs of layers
    assert abs(twice * len(pairs) * 45 - expected) < 4 * expected**0.5


def cosines(width):
    """The orthonormal cosine transform (type II) as a matrix: coefficients = matrix @ channels."""
    k, n = np.mgrid[:width, :width]
    return np.cos(np.pi * (2 * n + 1) * k / (2 * width)) * np.where(k == 0, 1, 2**0.5) / width**0.5


def ordering(order):
    """The matrix that puts channel order[p] at place p of a row."""
    return np.eye(len(order))[:, order]


@pytest.mark.parametrize(("inputs", "features"), [(7, 9), (4, 18), (11, 5)])
@pytest.mark.parametrize("kind", ["acdc", "acdc_permutation"])
def test_acdc_is_a_product_of_diagonals_cosine_transforms_and_permutations(kind, inputs, features):
    """Fewer inputs repeated, fewer features summed; on images of fewer and of more pixels than there are inputs."""
    dense = Dense((1, 1), inputs, features)
    layers, width = KINDS[kind].bounds(dense)[1], max(inputs, features)
    substitute = KINDS[kind].build(dense, layers)
    weights = substitute.init(jax.random.key(0))
    riffle = ordering([*range(0, width, 2), *range(1, width, 2)])
    matrix = np.eye(inputs)[:, np.arange(width) % inputs]
    for layer in range(layers):
        a, d = (np.diag(np.asarray(weights[name][layer], float)) for name in ("diagonal_a", "diagonal_d"))
        within = riffle if kind == "acdc" else np.eye(width)
        after = riffle if kind == "acdc" else ordering(permutations(dense, layers)[layer])
        matrix = matrix @ a @ cosines(width).T @ within @ d @ cosines(width) @ after
    summed = width // features
    matrix = sum(matrix[:, start : summed * features : summed] for start in range(summed))
    np.testing.assert_allclose(jax.jit(substitute.kernel)(weights)[0, 0], matrix, atol=1e-5)
    for pixels in (2, 30):
        images = np.random.default_rng(0).normal(size=(1, 1, pixels, inputs)).astype(np.float32)
        answered = jax.jit(substitute.apply, static_argnums=(2, 3))(weights, images, 1, None)
        np.testing.assert_allclose(answered, images @ matrix, atol=2e-5)


def test_tensor_train_and_tucker_are_their_sums():
    dense = Dense((1, 1), 8, 12)
    i, j, k = shape = axes(96)
    assert shape == (6, 8, 2)
    weights = build("tensor_train", dense, 0.5).init(jax.random.key(0))
    one, two, three = (np.asarray(weights[f"core_{number}"]) for number in (1, 2, 3))
    train = np.zeros(shape)
    for x, y, z, a, b in product(*(range(size) for size in (i, j, k, *two.shape[::2]))):
        train[x, y, z] += one[x, a] * two[a, y, b] * three[b, z]
    kernel = build("tensor_train", dense, 0.5).kernel(weights)
    np.testing.assert_allclose(kernel, train.reshape(1, 1, 8, 12), atol=1e-6)
    assert two.shape == (3, 8, 1)  # half of the smaller axis on both sides

    weights = build("tucker", dense, 0.5).init(jax.random.key(0))
    core, *sides = (np.asarray(weights[name]) for name in ("core", "axis_1", "axis_2", "axis_3"))
    tensor = np.zeros(shape)
    for x, y, z, a, b, c in product(*(range(size) for size in (i, j, k, *core.shape))):
        tensor[x, y, z] += core[a, b, c] * sides[0][x, a] * sides[1][y, b] * sides[2][z, c]
    kernel = build("tucker", dense, 0.5).kernel(weights)
    np.testing.assert_allclose(kernel, tensor.reshape(1, 1, 8, 12), atol=1e-6)
    assert core.shape == (3, 4, 1)


def test_axes_are_factors_near_the_cube_root():
    assert [axes(number) for number in (27, 128, 7, 1, 409600)] == [
        *((3, 3, 3), (8, 8, 2), (7, 1, 1), (1, 1, 1), (80, 80, 64))
    ]


def test_shuffle_is_its_loops():
    """Each output of a group sums its group of the shuffled bottleneck, each of those its group of the inputs."""
    dense, groups, middle = Dense((3, 3), 4, 16), 2, 4
    substitute = KINDS["shuffle"].build(dense, 3)  # the next smaller number that divides
    drawn = substitute.init(jax.random.key(0))
    weights = {name: np.asarray(leaf) for name, leaf in drawn.items()}
    kernel = np.zeros((3, 3, 4, 16))
    for group, own, n, out in product(range(groups), range(middle // groups), range(4 // groups), range(16)):
        place = own * groups + group  # where the shuffle puts channel `own` of a group
        if place // (middle // groups) != out // (16 // groups):
            continue
        into = weights["contract"][n, group * (middle // groups) + own]
        out_of = weights["expand"][place % (middle // groups), out]
        kernel[:, :, group * (4 // groups) + n, out] += into * out_of * weights["depthwise"][:, :, place]
    np.testing.assert_allclose(substitute.kernel(drawn), kernel, atol=1e-6)


def test_low_rank_has_its_rank():
    substitute = KINDS["low_rank"].build(Dense((1, 1), 16, 8), 3)
    assert np.linalg.matrix_rank(substitute.kernel(substitute.init(jax.random.key(0)))[0, 0], rtol=1e-4) == 3


def wide_resnet_28_10():
    """The 24 convolutions of 3×3 in the blocks of WRN-28-10."""
    for inputs, features in ((16, 160), (160, 320), (320, 640)):
        yield Dense((3, 3), inputs, features)
        yield from [Dense((3, 3), features, features)] * 7


def test_wide_resnet_28_10_at_a_tenth_has_the_published_count():
    dense = list(wide_resnet_28_10())
    tenth = sum(KINDS["hashed_decimate"].build(one, one.params // 10).params for one in dense)
    assert len(dense) == 24
    assert 36_479_194 - sum(one.params for one in dense) + tenth == 3_911_898


def test_odd_layers_are_replaced_or_refused():
    """Few channels, features that four does not divide: every kind does something sensible or says what it needs."""
    refused = {"separable_hashed_decimate": "needs a layer with at least 11 features"}
    for kind, dense in product(KINDS, [Dense((1, 1), 1, 3), Dense((5, 5), 3, 2), Dense((1, 3), 6, 10)]):
        if kind in refused and dense.size != (1, 1):
            with pytest.raises(UserError, match=refused[kind]):
                KINDS[kind].bounds(dense)
            continue
        for share in (0.0, 1.0):
            weights = jax.eval_shape(build(kind, dense, share).init, jax.random.key(0))
            kernel = jax.eval_shape(build(kind, dense, share).kernel, weights)
            assert kernel.shape == (*dense.size, dense.inputs, dense.features)


def test_a_number_out_of_bounds_is_refused():
    with pytest.raises(UserError, match=r"rank is 9, but for a 3×3 convolution of 8 to 16 channels it is from 1 to 8"):
        KINDS["low_rank"].build(Dense((3, 3), 8, 16), 9)
