"""Attainable costs and the most probable architecture within a limit, against all architectures of small spaces."""

import itertools

import jax
import numpy as np
import pytest

from jaxnas.core.errors import UserError
from jaxnas.costs.constraints import attainable, cheapest, dearest, derive_within, scored_options
from jaxnas.costs.terms import expected_cost
from jaxnas.networks.family import Term
from jaxnas.spaces.cell import cell_space
from jaxnas.spaces.product import product_space
from jaxnas.spaces.space import encode

CHAIN = product_space("chain", {"block": ("a", "b", "c")}, {"block": 5})
LACKING = product_space(
    "lacking",
    {"block": ("a", "b", "c"), "width": ("1", "2")},
    {"block": 3, "width": 2},
    allowed={"block": np.asarray([[True, True, True], [False, True, True], [False, False, True]])},
)
CELLS = cell_space(2, ("none", "skip_connect", "max_pool_3x3"))  # 48² architectures


def additive(space, seed):
    """A random price for every option; "none" of a cell costs something too."""
    rng = np.random.default_rng(seed)
    terms = [Term(((part, row),), np.empty(0)) for part, (rows, _) in space.shapes.items() for row in range(rows)]
    return expected_cost(space, terms, [rng.uniform(1, 9, space.shapes[term.choices[0][0]][1]) for term in terms], 3.0)


def paired(space, seed):
    """Beside prices of single options, those of pairs of neighbouring choices of the first part."""
    rng = np.random.default_rng(seed)
    part, (rows, options) = next(iter(space.shapes.items()))
    terms = [Term(((part, row), (part, row + 1)), np.empty(0)) for row in range(rows - 1)]
    return expected_cost(space, terms, [rng.uniform(1, 9, (options, options)) for _ in terms], 3.0)


def growing(space, seed):
    """Layers of chosen widths: each pair of neighbours costs the product of two increasing numbers."""
    rng = np.random.default_rng(seed)
    part, (rows, options) = next(iter(space.shapes.items()))
    widths = np.cumsum(rng.uniform(1, 9, (rows, options)), axis=1)
    terms = [Term(((part, row), (part, row + 1)), np.empty(0)) for row in range(rows - 1)]
    return expected_cost(space, terms, [np.outer(widths[row], widths[row + 1]) for row in range(rows - 1)], 3.0)


def every(space):
    """All valid architectures, stacked: those that are what `best` makes of themselves."""
    rows = [range(options) for _, (count, options) in space.shapes.items() for _ in range(count)]
    grid = np.asarray(list(itertools.product(*rows)), np.int32) if space is not CELLS else cells()
    cuts = np.cumsum([count for count, _ in space.shapes.values()])[:-1]
    stacked = dict(zip(space.shapes, np.split(grid, cuts, axis=1), strict=True))
    repaired = jax.device_get(jax.jit(jax.vmap(lambda one: space.best(encode(space, one))))(stacked))
    valid = np.all([np.all(stacked[p] == repaired[p], axis=1) for p in stacked], axis=0)
    found = {part: values[valid] for part, values in stacked.items()}
    assert len(found[next(iter(found))]) == space.size
    return found


def cells():
    """All pairs of cells of two nodes: both edges of the first node, two of the three of the second."""
    one = [
        (*first, *second)
        for first in itertools.product((1, 2), repeat=2)
        for second in itertools.product((0, 1, 2), repeat=3)
        if second.count(0) == 1
    ]
    return np.asarray([(*a, *b) for a in one for b in one], np.int32)


def number_of(architecture, everything):
    """Where it is among all architectures."""
    same = [np.all(np.equal(everything[part], one), axis=1) for part, one in architecture.items()]
    return int(np.flatnonzero(np.all(same, axis=0))[0])


def costs_of(space, cost, architectures):
    """Of stacked architectures, in one program."""
    return np.asarray(jax.jit(jax.vmap(lambda one: cost(encode(space, one))))(architectures))


def values(space, architectures, logits, scored):
    """The sum of log-probabilities that `decode` maximises: that of every chosen option which counts."""
    total = 0.0
    for part in space.shapes:
        masked = np.where(space.allowed[part], logits[part], -np.inf)
        scores = np.where(scored[part], masked - np.log(np.sum(np.exp(masked), axis=-1, keepdims=True)), 0.0)
        total = total + np.sum(scores[np.arange(scores.shape[0]), np.asarray(architectures[part])], axis=1)
    return total


def random_logits(space, seed):
    generator = np.random.default_rng(seed)
    return {part: 2 * generator.standard_normal(shape, np.float32) for part, shape in space.shapes.items()}


SPACES = [CHAIN, LACKING, CELLS]
COSTS = [(space, additive) for space in SPACES] + [(CHAIN, growing), (CHAIN, paired)]
IDS = [f"{space.name} {cost.__name__}" for space, cost in COSTS]


def test_scored_options():
    """Every option of a product space that a choice has, unless it is the only one; of cells, all but none."""
    assert scored_options(CHAIN)["block"].all()
    assert scored_options(LACKING)["block"].tolist() == [[True] * 3, [False, True, True], [False] * 3]
    assert scored_options(LACKING)["width"].all()
    for part in CELLS.shapes:
        assert scored_options(CELLS)[part].tolist() == [[False, True, True]] * 5


@pytest.mark.parametrize(("space", "build"), COSTS, ids=IDS)
def test_attainable_costs_are_those_of_all_architectures(space, build):
    """Also for pairs of choices, where the descents are not guaranteed to find them: with these seeds they do."""
    cost, everything = build(space, 1), every(space)
    costs = costs_of(space, cost, everything)
    extremes = [costs.min(), costs.max()]
    np.testing.assert_allclose(attainable(space, cost), extremes, rtol=1e-6)
    ends = [costs[number_of(find(space, cost), everything)] for find in (cheapest, dearest)]
    np.testing.assert_allclose(ends, extremes, rtol=1e-6)


@pytest.mark.parametrize(("space", "build"), COSTS, ids=IDS)
def test_within_a_limit(space, build):
    """Within it, no better than the optimum and mostly as good, and for sums not below what any price gives."""
    cost, logits = build(space, 2), random_logits(space, 3)
    everything, scored = every(space), scored_options(space)
    costs = costs_of(space, cost, everything)
    worth = values(space, everything, logits, scored)
    prices = np.geomspace(1e-3, 1e3, 200)
    priced = {int(np.argmax(worth - price * costs)) for price in prices}
    free = jax.jit(space.decode)(logits)
    exact = 0
    limits = [float(np.quantile(costs, share)) for share in (0.002, 0.05, 0.2, 0.5, 0.8)]
    for limit in limits:
        found = derive_within(space, cost, limit, logits)
        at = number_of(found, everything)
        optimum = np.max(worth[costs <= limit])
        assert costs[at] <= limit and worth[at] <= optimum + 1e-5
        if build is additive:
            assert worth[at] >= max((worth[one] for one in priced if costs[one] <= limit), default=-np.inf) - 1e-5
        exact += worth[at] >= optimum - 1e-5
    assert exact >= 3
    jax.tree.map(np.testing.assert_array_equal, derive_within(space, cost, float(costs.max()), logits), free)


def test_options_of_probability_zero_are_not_taken():
    """The cheapest option of every choice is ruled out; limits count from the others."""
    table = np.asarray([1.0, 5.0, 9.0])
    terms = [Term((("block", row),), np.empty(0)) for row in range(5)]
    cost = expected_cost(CHAIN, terms, [table] * 5, 0.0)
    logits = {"block": np.asarray([[-np.inf, 0.0, 1.0]] * 5, np.float32)}
    assert np.bincount(derive_within(CHAIN, cost, 37.0, logits)["block"], minlength=3).tolist() == [0, 2, 3]
    with pytest.raises(UserError, match="have 25 to 45"):
        derive_within(CHAIN, cost, 24.0, logits)


@pytest.mark.parametrize(("limit", "unit", "words"), [(1e6, "parameters", "1,000,000 parameters"), (0.5, "", "0.5")])
def test_a_limit_below_what_there_is(limit, unit, words):
    terms = [Term((("block", row),), np.empty(0)) for row in range(5)]
    cost = expected_cost(CHAIN, terms, [np.asarray([1e6, 2e6, 3e6])] * 5, 1_234_567)
    sentence = f"^cost.limit is {words}, but architectures of this space have 6,234,567 to 16,234,567.$"
    with pytest.raises(UserError, match=sentence):
        derive_within(CHAIN, cost, limit, random_logits(CHAIN, 0), unit=unit)
