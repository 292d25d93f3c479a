import itertools
from functools import partial
from math import log

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.spaces.cell import cell_space
from jaxnas.spaces.product import product_space
from jaxnas.spaces.space import crossover, encode, entropy, log_prob, mutate, random

CELLS = cell_space(2, ("none", "skip_connect", "max_pool_3x3"))  # 48² architectures
FREE = product_space(
    "free", {"colour": ("red", "green", "blue"), "size": ("1", "2", "3", "4")}, {"colour": 2, "size": 1}
)

DRAW = {space.name: jax.jit(partial(random, space)) for space in (CELLS, FREE)}


def random_of(space, seed=1):
    return jax.device_get(DRAW[space.name](jax.random.key(seed)))


def keys(count):
    return jax.random.split(jax.random.key(0), count)


def draw(function, count):
    """`count` architectures drawn by function(key), one row each, all parts side by side: int [count, choices]."""
    drawn = jax.jit(jax.vmap(function))(keys(count))
    return {part: np.asarray(values) for part, values in drawn.items()}


def assert_uniform(rows, categories):
    """Chi-square of the rows against equal frequencies of `categories` values: at most 5 standard deviations up."""
    count = len(rows)
    _, frequencies = np.unique(rows, axis=0, return_counts=True)
    expected = count / categories
    assert len(frequencies) == categories
    statistic = np.sum((frequencies - expected) ** 2) / expected
    assert statistic < categories - 1 + 5 * np.sqrt(2 * (categories - 1))


@pytest.mark.parametrize("space", [CELLS, FREE], ids=lambda space: space.name)
def test_random_architectures_are_uniform_over_the_valid_ones(space):
    drawn = draw(lambda key: random(space, key), 20 * space.size)
    assert_uniform(np.concatenate(list(drawn.values()), axis=1), space.size)


@pytest.mark.parametrize("space", [CELLS, FREE], ids=lambda space: space.name)
def test_encoding_is_one_hot(space):
    architecture = random_of(space)
    gates = jax.jit(partial(encode, space))(architecture)
    for part, shape in space.shapes.items():
        assert gates[part].shape == shape
        assert gates[part].dtype == jnp.float32
        np.testing.assert_array_equal(gates[part], np.eye(shape[1])[architecture[part]])
    jax.tree.map(np.testing.assert_array_equal, jax.jit(space.decode)(gates), architecture)


@pytest.mark.parametrize("space", [CELLS, FREE], ids=lambda space: space.name)
def test_mutation_at_rate_zero_and_crossover_with_itself_change_nothing(space):

    def family(key):
        parent = random(space, key)
        return parent, mutate(space, key, parent, 0.0), crossover(space, key, parent, parent)

    parents, *children = jax.jit(jax.vmap(family))(keys(20))
    for each in children:
        jax.tree.map(np.testing.assert_array_equal, each, parents)


def test_mutated_choices_take_every_other_option_equally_often():
    parent = random_of(FREE)
    children = draw(lambda key: mutate(FREE, key, parent, 1.0), 400)
    for part, values in children.items():
        options = FREE.shapes[part][1]
        assert not np.any(values == parent[part])
        assert_uniform(values, (options - 1) ** values.shape[1])


def test_choices_mutate_at_the_given_rate():
    parent = random_of(FREE)
    children = draw(lambda key: mutate(FREE, key, parent, 0.3), 2000)
    changed = np.mean(children["size"] != parent["size"])
    assert abs(changed - 0.3) < 5 * np.sqrt(0.3 * 0.7 / 2000)


def test_mutated_cells_are_valid_and_keep_no_operation_at_rate_one():
    parent = random_of(CELLS)
    children = draw(lambda key: mutate(CELLS, key, parent, 1.0), 200)
    for part, values in children.items():
        before = parent[part]
        assert not np.any((values == before) & (before != 0))
        for row in np.unique(values, axis=0):
            CELLS.canonical({"normal": row, "reduce": row})  # raises for a cell that is not valid


def test_a_mutated_choice_takes_effect():
    """A cell stays as it is only if none of its five choices mutates: what was not mutated gives way."""
    parent = random_of(CELLS)
    children = draw(lambda key: mutate(CELLS, key, parent, 0.1), 4000)
    unchanged = np.mean(np.all(children["normal"] == parent["normal"], axis=1))
    assert abs(unchanged - 0.9**5) < 4 * np.sqrt(0.9**5 * (1 - 0.9**5) / 4000)


def test_mutation_leads_to_every_cell():
    parent = random_of(CELLS)
    children = draw(lambda key: mutate(CELLS, key, parent, 0.5), 4000)
    assert len(np.unique(children["normal"], axis=0)) == 48


def test_crossed_cells_are_valid_and_keep_operations_of_a_parent_only():
    first, second = (random_of(CELLS, seed) for seed in (1, 2))
    children = draw(lambda key: crossover(CELLS, key, first, second), 200)
    for part, values in children.items():
        one, other = first[part], second[part]
        assert np.all((values == one) | (values == other) | (values == 0))
        assert {tuple(one), tuple(other)} <= {tuple(row) for row in values}
        for row in np.unique(values, axis=0):
            CELLS.canonical({"normal": row, "reduce": row})


def test_crossed_choices_come_from_either_parent_equally_often():
    first = {"colour": np.asarray([0, 1], np.int32), "size": np.asarray([3], np.int32)}
    second = {"colour": np.asarray([2, 2], np.int32), "size": np.asarray([0], np.int32)}
    children = draw(lambda key: crossover(FREE, key, first, second), 400)
    rows = np.concatenate([children["colour"], children["size"]], axis=1)
    assert {tuple(row) for row in rows} == set(itertools.product((0, 2), (1, 2), (3, 0)))
    assert_uniform(rows, 8)


def logits():
    generator = np.random.default_rng(0)
    return {part: np.float32(generator.normal(size=shape)) for part, shape in FREE.shapes.items()}


def all_combinations():
    rows = np.asarray(list(itertools.product(range(3), range(3), range(4))), np.int32)
    return {"colour": rows[:, :2], "size": rows[:, 2:]}


def test_probabilities_of_all_combinations_sum_to_one_and_give_the_entropy():
    values = np.asarray(jax.jit(jax.vmap(log_prob, (None, 0)))(logits(), all_combinations()))
    assert values.shape == (36,)
    np.testing.assert_allclose(np.sum(np.exp(values)), 1.0, rtol=1e-5)
    np.testing.assert_allclose(sum(jax.jit(entropy)(logits()).values()), -np.sum(np.exp(values) * values), rtol=1e-5)


def test_entropy_of_certain_and_of_uniform_choices():
    found = jax.jit(entropy)({"uniform": np.zeros((3, 5)), "certain": np.asarray([[0.0, -np.inf], [-np.inf, 7.0]])})
    np.testing.assert_allclose(found["uniform"], 3 * log(5), rtol=1e-6)
    np.testing.assert_allclose(found["certain"], 0.0, atol=1e-7)
