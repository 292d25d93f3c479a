"""Whatever is drawn is legal, whoever draws it; against all architectures of small spaces."""

import itertools
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.core.errors import UserError
from jaxnas.core.keys import named
from jaxnas.spaces.cell import cell_space
from jaxnas.spaces.product import product_space
from jaxnas.spaces.space import crossover, encode, mutate, random
from jaxnas.strategies.drawing import draw_legal, draw_new, draw_several, frequencies, legal, pick, prepared, randomly
from jaxnas.strategies.evolution import ageing, evolution
from jaxnas.strategies.halving import successive_halving
from jaxnas.strategies.pareto import nsga2
from jaxnas.strategies.perturbation import perturbation
from jaxnas.strategies.random_search import random_search
from jaxnas.strategies.seen import among
from jaxnas.strategies.strategy import Problem, outcome_of

CHAIN = product_space("chain", {"block": ("a", "b", "c")}, {"block": 5})  # 243 architectures
CELLS = cell_space(2, ("none", "skip_connect", "max_pool_3x3"))
ALL = np.asarray(list(itertools.product(range(3), repeat=5)), np.int32)
rng = np.random.default_rng(0)
WORTH, PRICE = rng.uniform(0, 1, (5, 3)).astype(np.float32), rng.uniform(0, 1, (5, 3)).astype(np.float32)
PRICES = np.sum(PRICE[np.arange(5), ALL], axis=1)
LIMIT = float(np.quantile(PRICES, 0.08))
WITHOUT = {"block": jnp.asarray([[True, True, False]] * 2 + [[True] * 3] * 3)}


def cost(gates):
    return jnp.sum(PRICE * gates["block"])


LIMITED = Problem(CHAIN, cost, LIMIT)
MASKED = Problem(CHAIN, cost, float(np.quantile(PRICES, 0.2)), allowed=WITHOUT)


def expected(problem):
    """Which of ALL are legal, bool [243]."""
    allowed = np.ones((5, 3), bool) if problem.allowed is None else np.asarray(problem.allowed["block"])
    return np.less_equal(PRICES, np.float32(problem.limit)) & np.all(allowed[np.arange(5), ALL], axis=1)


@pytest.mark.parametrize("problem", [LIMITED, MASKED], ids=["limit", "limit and options"])
def test_legal_is_within_the_limit_and_of_allowed_options(problem):
    answers = np.asarray(jax.jit(jax.vmap(lambda one: legal(problem, {"block": one})))(ALL))
    np.testing.assert_array_equal(answers, expected(problem))
    assert 0.03 < np.mean(answers) < 0.2
    least = prepared(problem)[1]["block"]
    costs = np.where(expected(problem), PRICES, np.inf)
    np.testing.assert_array_equal(least, ALL[np.argmin(costs)])


def test_what_is_not_kept_in_a_cell_needs_no_permission():
    """Identities only, on one edge pooling too: `none` is what becomes of the edges that are not kept."""
    only = np.asarray([[False, True, False]] * 4 + [[False, True, True]])
    problem, least = prepared(Problem(CELLS, allowed={"normal": only, "reduce": only}))
    assert least["normal"].tolist() == [1, 1, 1, 1, 0]

    def judged(key):
        anything = random(CELLS, key)
        return anything, legal(problem, anything), random(problem.space, key)

    keys = jax.random.split(jax.random.key(0), 3000)
    anything, answers, drawn = jax.device_get(jax.jit(jax.vmap(judged))(keys))
    pooled = np.stack([np.any(anything[part][:, :4] == 2, axis=1) for part in anything])
    np.testing.assert_array_equal(answers, ~np.any(pooled, axis=0))
    cells = {tuple(row) for row in drawn["normal"]}
    assert cells == {(1, 1, *rest) for rest in ((1, 1, 0), (1, 0, 1), (0, 1, 1), (1, 0, 2), (0, 1, 2))}


def test_choices_that_decide_nothing_take_their_first_option():
    """Two blocks that may be left out, each of three kinds: sixteen networks, whatever makes them."""
    gated = product_space("gated", {"on": ("no", "yes"), "kind": ("a", "b", "c")}, {"on": 2, "kind": 2})
    space = gated._replace(relevant=lambda one: {"on": jnp.ones(2, bool), "kind": one["on"] == 1})
    problem, least = prepared(Problem(space))

    def made(key):
        one, other = (random(problem.space, named(key, name)) for name in ("one", "other"))
        return one, mutate(problem.space, key, one, 0.5), crossover(problem.space, key, one, other)

    assert least["kind"].tolist() == [0, 0]
    for found in jax.jit(jax.vmap(made))(jax.random.split(jax.random.key(0), 400)):
        rows = np.concatenate([found["on"], found["kind"]], axis=1)
        assert np.all(rows[:, 2:][rows[:, :2] == 0] == 0)
        assert len({tuple(row) for row in rows.tolist()}) == 16


def test_drawn_architectures_are_uniform_over_the_legal_ones():
    """Chi-square at most 5 standard deviations up, of batches and of single ones."""
    problem, least = prepared(MASKED)
    count = int(expected(MASKED).sum())

    def drawn(key):
        one, other = jax.random.split(key)
        several = draw_several(problem, randomly(problem.space), least, one, 10)
        return several["block"], draw_legal(problem, randomly(problem.space), least, other)["block"]

    several, single = jax.jit(jax.vmap(drawn))(jax.random.split(jax.random.key(1), 400))
    for rows in (np.asarray(several).reshape(-1, 5), np.asarray(single)):
        _, frequency = np.unique(rows, axis=0, return_counts=True)
        assert len(frequency) == count
        statistic = np.sum((frequency - len(rows) / count) ** 2) / (len(rows) / count)
        assert statistic < count - 1 + 5 * np.sqrt(2 * (count - 1))


def test_the_first_legal_proposal_else_the_fallback():
    """The n-th batch of proposals has its own key, whether it is needed or not."""
    problem, least = prepared(LIMITED)
    key, propose = jax.random.key(2), randomly(CHAIN)
    of_batch = jax.jit(lambda number: jax.vmap(propose)(jax.random.split(jax.random.fold_in(key, number), 3)))
    proposals = np.concatenate([of_batch(number)["block"] for number in range(60)]).tolist()
    rows = [row for row in proposals if PRICES[ALL.tolist().index(row)] <= LIMIT]
    drawn = jax.jit(lambda key: draw_several(problem, propose, least, key, 3, tries=60))(key)
    assert drawn["block"].tolist() == rows[:3]
    dear = jnp.asarray(ALL[np.argmax(PRICES)])
    nothing = jax.jit(lambda key: draw_several(problem, lambda _: {"block": dear}, least, key, 3, tries=4))(key)
    assert nothing["block"].tolist() == [least["block"].tolist()] * 3


def test_a_limit_that_excludes_nothing_changes_nothing():
    free, ample = Problem(CHAIN, cost), Problem(CHAIN, cost, float(PRICES.max()) + 1)
    least = {"block": jnp.asarray(ALL[0])}
    draw = jax.jit(lambda key: [draw_several(one, randomly(CHAIN), least, key, 8)["block"] for one in (free, ample)])
    np.testing.assert_array_equal(*draw(jax.random.key(3)))


def test_new_ones_are_not_known_and_not_repeated_until_all_are():
    problem, least = prepared(LIMITED)
    within = ALL[expected(LIMITED)]
    count = len(within)
    held = {"block": jnp.asarray(within)}

    def drawn(key, known):
        return draw_new(
            problem,
            randomly(CHAIN),
            least,
            key,
            4,
            lambda architectures: among(CHAIN, architectures, held, jnp.arange(count) < known),
        )["block"]

    several = jax.jit(jax.vmap(drawn, in_axes=(0, None)))
    keys = jax.random.split(jax.random.key(4), 20)
    for known, distinct in ((0, 4), (count - 6, 4), (count, None)):
        for batch in np.asarray(several(keys, known)).tolist():
            numbers = [within.tolist().index(row) for row in batch]  # all are legal
            assert distinct is None or (len(set(numbers)) == 4 and min(numbers) >= known)


def test_frequencies_are_those_of_the_architectures_that_count():
    held = {"block": jnp.asarray(ALL[::7])}
    counts = np.arange(len(ALL[::7])) % 3 == 0
    shares = jax.jit(lambda counts: frequencies(CHAIN, held, counts)["block"])
    found = shares(counts)
    np.testing.assert_allclose(found, np.mean(np.eye(3)[ALL[::7][counts]], axis=0), rtol=1e-6)
    everything = shares(np.zeros(len(counts), bool))
    np.testing.assert_allclose(everything, np.mean(np.eye(3)[ALL[::7]], axis=0), rtol=1e-6)


@pytest.mark.parametrize(
    ("problem", "message"),
    [
        (Problem(CHAIN, cost, 0.01), r"limit of the cost is 0.01, which no architecture meets: .* cost \d.\d+ to \d"),
        (LIMITED._replace(allowed={"block": np.zeros((5, 3), bool)}), "still allowed leave no architecture of the"),
        (Problem(CHAIN, allowed={"block": np.eye(5, 3, dtype=bool)}), "still allowed leave no architecture of the"),
    ],
)
def test_problems_without_an_architecture(problem, message):
    with pytest.raises(UserError, match=message):
        prepared(problem)


# What is true of every search that draws by chance. A strategy is a row: how it is built, and how many rounds it plays.
STRATEGIES = {
    "random": (partial(random_search, batch=6), 3),
    "halving": (partial(successive_halving, candidates=8, reduction=2, rungs=3), 16),
    "evolution": (partial(evolution, population=5, parents=3, mutants=5, crossovers=0, mutation_rate=0.3), 5),
    "ageing": (partial(ageing, population=6, sample=2, mutation_rate=0.2, batch=2), 8),
    "nsga2": (partial(nsga2, population=6, mutation_rate=0.3, crossover_rate=0.8), 5),
    "perturbation": (partial(perturbation, samples=6, perturbations=4, mutation_rate=0.3, batch=2), 8),
}


def accuracy(architecture):
    return jnp.sum(WORTH * encode(CHAIN, architecture)["block"])


@cache
def game(name):
    """key -> of every round: what was proposed, what was known of it, and what the strategy then says."""
    build, rounds = STRATEGIES[name]
    strategy = build(MASKED)

    def play(key):
        def one(state, key):
            ask, tell = jax.random.split(key)
            proposal = strategy.ask(ask, state)
            outcome = outcome_of(MASKED, proposal.architectures, jax.vmap(accuracy)(proposal.architectures))
            state = strategy.tell(tell, state, proposal, outcome)
            said = strategy.best(state), strategy.probabilities(state), strategy.metrics(state)
            return state, (proposal, outcome, said)

        state = strategy.init(key)
        return jax.lax.scan(one, state, jax.random.split(key, rounds))[1], strategy.best(state)

    return strategy, play


@cache
def games(name):
    """Three repetitions as one program."""
    return jax.tree.map(np.asarray, jax.jit(jax.vmap(game(name)[1]))(jax.random.split(jax.random.key(5), 3)))


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_candidate_is_legal_in_every_round(name):
    """As is what a strategy would derive, before the first round too; and it is the best of what was seen in full."""
    (proposal, outcome, (best, probabilities, _)), first = games(name)
    batch = game(name)[0].batch
    within = {tuple(row) for row in ALL[expected(MASKED)].tolist()}
    assert proposal.architectures["block"].shape == (3, STRATEGIES[name][1], batch, 5)
    for rows in (proposal.architectures["block"], best["block"], first["block"]):
        assert {tuple(row) for row in rows.reshape(-1, 5).tolist()} <= within
    np.testing.assert_allclose(probabilities["block"].sum(axis=-1), 1.0, rtol=1e-5)
    full = np.where(proposal.fidelity == 1, outcome.reward, -np.inf).max(axis=(1, 2))
    derived = np.sum(WORTH[np.arange(5), best["block"][:, -1]], axis=1)
    np.testing.assert_allclose(derived, full, rtol=1e-6)


@pytest.mark.parametrize("name", STRATEGIES)
def test_repetitions_do_not_depend_on_one_another(name):
    """A search by itself is bit for bit what it is among others, and as its key has it."""
    alone = jax.jit(game(name)[1])(jax.random.split(jax.random.key(5), 3)[1])
    jax.tree.map(lambda one, among_others: np.testing.assert_array_equal(one, among_others[1]), alone, games(name))
    proposed = games(name)[0][0].architectures["block"]
    assert not np.array_equal(proposed[0], proposed[1])


@pytest.mark.parametrize("name", ["random", "halving", "ageing", "perturbation"])
def test_a_search_without_limit_starts_anywhere(name):
    """The first proposals of searches without a limit are of all architectures, also of those beyond other limits."""
    strategy = STRATEGIES[name][0](Problem(CHAIN, cost))
    keys = jax.random.split(jax.random.key(6), 200)
    ask = jax.jit(jax.vmap(lambda key: strategy.ask(key, strategy.init(key)).architectures))
    rows = np.asarray(ask(keys)["block"]).reshape(-1, 5)
    assert len(np.unique(rows, axis=0)) > 0.75 * len(ALL)


def test_picking_keeps_the_order():
    assert pick({"block": jnp.asarray(ALL)}, jnp.asarray([7, 3]))["block"].tolist() == ALL[[7, 3]].tolist()


def test_a_batch_of_nothing():
    with pytest.raises(UserError, match="batch is 0, but at least 1 architecture"):
        random_search(LIMITED, batch=0)
