"""Searches of a table: a compiled program does what a loop of ask, look up and tell does, and its figures are exact."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.core.errors import UserError
from jaxnas.core.keys import at_step, named
from jaxnas.evaluate.synthetic import synthetic_table
from jaxnas.evaluate.tabular import Table, column, lookup
from jaxnas.evaluate.tabular_search import (
    LARGEST,
    Answers,
    answers,
    architecture_at,
    column_cost,
    dense,
    index_of,
    judge,
    tabular_search,
)
from jaxnas.spaces.cell import cell_space
from jaxnas.spaces.product import product_space
from jaxnas.spaces.space import encode, random
from jaxnas.strategies.strategy import Problem, Proposal, Strategy, better, no_incumbent, outcome_of

KEY = jax.random.key(0)
TABLE = synthetic_table(choices=4, options=3, interactions=0.5, seed=0)  # 81 architectures
SPACE = TABLE.space
# Two parts of which one choice lacks an option: 2 · 3 · 2 = 12 architectures among 18 combinations.
GAPS = product_space(
    "gaps",
    {"a": ("0", "1", "2"), "b": ("x", "y")},
    {"a": 2, "b": 1},
    allowed={"a": np.array([[True, False, True], [True, True, True]])},
)


def drawing(problem, *, batch, fidelities=(1.0,)):
    """Random search whose rounds are of these fidelities in turn; its state is how many rounds there were."""
    space = problem.space
    of_round = jnp.asarray(fidelities)

    def ask(key, state):
        architectures = jax.vmap(lambda key: random(space, key))(jax.random.split(key, batch))
        fidelity = of_round[state[0] % len(fidelities)]
        return Proposal(architectures, jnp.full(batch, fidelity))

    return Strategy(
        batch=batch,
        init=lambda key: (jnp.zeros((), jnp.int32), no_incumbent(space)),
        ask=ask,
        tell=lambda key, state, proposal, outcome: (
            state[0] + 1,
            better(state[1], proposal.architectures, outcome.reward),
        ),
        best=lambda state: state[1].architecture,
        probabilities=lambda state: {p: jnp.full((c, o), 1 / o) for p, (c, o) in space.shapes.items()},
        metrics=lambda state: {"rounds": state[0]},
    )


@functools.cache
def found(batch=3, evaluations=21, repetitions=5, limit=0.0, fidelities=(1.0,), noise=0.0):
    problem = problem_of(limit)
    table = answers(TABLE, "accuracy", noise=noise)
    strategy = drawing(problem, batch=batch, fidelities=fidelities)
    return tabular_search(strategy, problem, table, evaluations=evaluations, key=KEY, repetitions=repetitions)


def problem_of(limit):
    return Problem(SPACE, column_cost(TABLE, "cost"), limit) if limit else Problem(SPACE)


def everything(space):
    """All combinations of options, {part: [combinations, choices]}, in the order of their numbers."""
    count = np.prod([options**choices for choices, options in space.shapes.values()])
    return jax.vmap(lambda index: architecture_at(space, index))(jnp.arange(count))


def test_numbers_of_architectures_are_those_of_all_combinations_in_order():
    architectures = everything(GAPS)
    np.testing.assert_array_equal(jax.vmap(lambda one: index_of(GAPS, one))(architectures), np.arange(18))
    rows = np.concatenate([architectures["a"], architectures["b"]], axis=1)
    np.testing.assert_array_equal(rows, np.array(list(np.ndindex(3, 3, 2))))


def test_dense_values_stand_where_the_table_lists_them():
    listed = [{"a": jnp.array(a), "b": jnp.array(b)} for a, b in [([2, 1], [0]), ([0, 0], [1]), ([0, 2], [0])]]
    rows = {GAPS.canonical(one): row for row, one in enumerate(listed)}
    table = Table(GAPS, ("value", "other"), rows, np.array([[5.0, 1.0], [7.0, 2.0], [6.0, 4.0]]))
    values = dense(table, column(table, "value"))
    assert {int(at): float(values[at]) for at in np.flatnonzero(np.isfinite(values))} == {1: 7.0, 4: 6.0, 14: 5.0}
    assert [lookup(table, one, "value") for one in listed] == [values[index_of(GAPS, one)] for one in listed]
    cost = column_cost(table, "other")
    assert [float(cost(encode(GAPS, one))) for one in listed] == [1.0, 2.0, 4.0]
    assert float(cost(encode(GAPS, {"a": jnp.array([2, 2]), "b": jnp.array([0])}))) == 4.0  # the highest listed


def test_one_program_does_what_a_loop_of_ask_look_up_and_tell_does():
    repetition, batch = 2, 3
    curves, problem = found(batch=batch, limit=20.0), problem_of(20.0)
    strategy = drawing(problem, batch=batch)
    key = at_step(KEY, "repetition", repetition)
    state, best, spent, limited = strategy.init(named(key, "init")), None, 0.0, []
    accuracies = {text: np.float32(value) for text, value in zip(TABLE.rows, column(TABLE, "accuracy"), strict=True)}
    costs = dict(zip(TABLE.rows, column(TABLE, "cost"), strict=True))
    optimum = max(accuracy for text, accuracy in accuracies.items() if costs[text] <= 20.0)
    for number in range(curves.spent.shape[1]):
        proposal = strategy.ask(at_step(key, "ask", number), state)
        texts = [SPACE.canonical({"choices": one}) for one in np.asarray(proposal.architectures["choices"])]
        observed = [accuracies[text] for text in texts]
        outcome = outcome_of(problem, proposal.architectures, jnp.asarray(observed))
        state = strategy.tell(at_step(key, "tell", number), state, proposal, outcome)
        spent += batch
        limited += [accuracies[text] for text in texts if costs[text] <= 20.0]
        best = max(limited, default=np.nan)
        text = SPACE.canonical(strategy.best(state))
        derived = accuracies[text] if costs[text] <= 20.0 else np.nan
        assert curves.spent[repetition, number] == spent
        np.testing.assert_array_equal(curves.accuracy[repetition, number], best)
        np.testing.assert_array_equal(curves.regret[repetition, number], optimum - best)
        np.testing.assert_array_equal(curves.derived[repetition, number], derived)
        np.testing.assert_allclose(curves.reward[repetition, number], np.mean(observed), rtol=1e-6)
        np.testing.assert_allclose(curves.entropy[repetition, number], 4 * np.log(3), rtol=1e-6)
        assert curves.metrics["rounds"][repetition, number] == number + 1
    final = {part: values[repetition] for part, values in curves.final.items()}
    assert SPACE.canonical(final) == text
    at_end = {part: values[repetition] for part, values in curves.found.items()}
    assert accuracies[SPACE.canonical(at_end)] == best and costs[SPACE.canonical(at_end)] <= 20.0


def test_a_repetition_is_the_same_however_many_there_are():
    several, fewer = found(repetitions=5), found(repetitions=2)
    for name in ("accuracy", "regret", "derived", "spent"):
        np.testing.assert_array_equal(getattr(several, name)[:2], getattr(fewer, name))
    np.testing.assert_array_equal(several.final["choices"][:2], fewer.final["choices"])
    assert len(np.unique(several.final["choices"], axis=0)) > 1  # repetitions differ


def test_random_search_does_as_well_as_the_order_statistics_of_the_table_say():
    """The best of n draws with replacement is at most the i-th smallest of N values with probability (i / N)^n."""
    curves = found(batch=4, evaluations=40, repetitions=4000)
    values = np.sort(column(TABLE, "accuracy"))
    below = np.arange(len(values) + 1) / len(values)
    for number, drawn in enumerate(curves.spent[0].astype(int)):
        weights = np.diff(below**drawn)
        mean = weights @ values
        error = np.sqrt(weights @ (values - mean) ** 2 / 4000)
        assert abs(curves.accuracy[:, number].mean(dtype=float) - mean) < 4 * error  # 10 checks: by chance 1 in 1600
    chance = 1 - (1 - 1 / len(values)) ** 40
    hits = np.mean(curves.regret[:, -1] == 0)
    assert abs(hits - chance) < 4 * np.sqrt(chance * (1 - chance) / 4000)


@pytest.mark.parametrize("limit", [0.0, 20.0])
def test_regret_is_zero_exactly_where_the_optimum_was_found(limit):
    curves = found(batch=3, evaluations=60, repetitions=50, limit=limit)
    costs = column(TABLE, "cost")
    values = np.where(costs <= limit, column(TABLE, "accuracy"), -1) if limit else column(TABLE, "accuracy")
    optimum = list(TABLE.rows)[int(np.argmax(values))]
    best = [SPACE.canonical({"choices": one}) == optimum for one in curves.found["choices"]]
    assert 0 < sum(best) < 50
    np.testing.assert_array_equal(curves.regret[:, -1] == 0, best)
    known = ~np.isnan(curves.regret)
    assert np.all(curves.regret[known] >= 0) and np.all(known[:, -1])
    falling = np.diff(np.where(known, curves.regret, np.inf)[:, known.all(axis=0).argmax() :], axis=1)
    assert np.all(falling <= 0)


def test_a_reward_decides_what_the_best_so_far_is():
    """With a reward that falls with the accuracy, the best is the worst; its accuracy is recorded as it is."""
    problem = Problem(SPACE, reward=lambda accuracy, cost: 1 - accuracy)
    table = answers(TABLE, "accuracy")
    curves = tabular_search(drawing(problem, batch=10), problem, table, evaluations=400, key=KEY, repetitions=3)
    lowest = np.float32(column(TABLE, "accuracy").min())
    np.testing.assert_array_equal(curves.accuracy[:, -1], lowest)
    np.testing.assert_array_equal(curves.regret[:, -1], 0.0)


def test_fidelities_spend_what_they_are_and_the_best_is_of_the_highest():
    """Rounds of 1/4, 1/4, 1/2, 1 of a whole evaluation: 2 of them cost 4, and 23 pay for 5 such turns and a half."""
    curves = found(batch=2, evaluations=23, repetitions=4, fidelities=(0.25, 0.25, 0.5, 1.0), noise=100.0)
    turns = np.cumsum(np.tile([0.5, 0.5, 1.0, 2.0], 6))
    expected = turns[turns <= 23]
    np.testing.assert_array_equal(curves.spent, np.tile(expected, (4, 1)))
    assert curves.proposals == 4 * 2 * len(expected)
    # After the first whole evaluations neither noise nor lower fidelities change the best for the worse.
    assert np.all(np.diff(curves.accuracy[:, 3:], axis=1) >= 0)
    changes = np.diff(curves.accuracy[:, 3:], axis=1) != 0
    assert not changes[:, np.arange(changes.shape[1]) % 4 != 3].any()


def test_noise_has_the_deviation_that_is_stated():
    """At fidelity f the answers deviate by noise · √(1/f - 1): here 0.3 · √3, over 4 · 200 rounds of 8 proposals."""
    flat = Answers(SPACE, jnp.zeros(81), jnp.zeros((1, 81)), 0.3)
    problem = Problem(SPACE)
    strategy = drawing(problem, batch=8, fidelities=(0.25,))
    curves = tabular_search(strategy, problem, flat, evaluations=400, key=KEY, repetitions=4)
    means = curves.reward.reshape(-1)
    expected = 0.3 * np.sqrt(3) / np.sqrt(8)
    assert len(means) == 800
    assert abs(means.std() / expected - 1) < 4 / np.sqrt(2 * 800)
    assert abs(means.mean()) < 4 * expected / np.sqrt(800)


def test_evaluations_answer_with_single_trainings():
    """Two trainings of 0 and 1 around a truth of a half: half of the answers are 1, and the truth is recorded."""
    of_two = Answers(SPACE, jnp.full(81, 0.5), jnp.stack([jnp.zeros(81), jnp.ones(81)]))
    problem = Problem(SPACE)
    curves = tabular_search(drawing(problem, batch=8), problem, of_two, evaluations=800, key=KEY, repetitions=4)
    assert abs(curves.reward.mean() - 0.5) < 4 * 0.5 / np.sqrt(3200)
    np.testing.assert_array_equal(curves.accuracy, 0.5)


def half(missing):
    """A table that lists every other architecture only."""
    kept = list(TABLE.rows)[::2]
    table = Table(SPACE, TABLE.metrics, {text: row for row, text in enumerate(kept)}, TABLE.values[::2])
    return table, answers(table, "accuracy", missing=missing)


def test_an_architecture_that_is_not_listed_is_named():
    table, given = half("error")
    problem = Problem(SPACE)
    with pytest.raises(UserError, match=r"the table does not list the architecture '(\S+)', .* 41 of the 81") as error:
        tabular_search(drawing(problem, batch=3), problem, given, evaluations=30, key=KEY, repetitions=3)
    named_in_it = str(error.value).split("'")[1]
    assert named_in_it in TABLE.rows and named_in_it not in table.rows


def test_an_architecture_that_is_not_listed_can_answer_the_worst():
    table, given = half("worst")
    problem = Problem(SPACE)
    curves = tabular_search(drawing(problem, batch=3), problem, given, evaluations=90, key=KEY, repetitions=3)
    values = column(table, "accuracy")
    assert np.nanmin(curves.accuracy) >= np.float32(values.min())
    assert np.isclose(float(judge(problem, given).rewards.max()), values.max(), rtol=1e-6)


def test_options_that_are_not_searched_any_more_are_not_the_best():
    mask = np.ones((4, 3), bool)
    mask[0, 1:] = False
    judged = judge(Problem(SPACE, allowed={"choices": mask}), answers(TABLE, "accuracy"))
    np.testing.assert_array_equal(np.isfinite(judged.rewards), np.arange(81) < 27)


def test_a_table_without_noise_in_interactions_is_best_option_by_option():
    """Without interactions the exchange of one choice tells the better option, whatever the other choices are."""
    table = synthetic_table(choices=3, options=3, interactions=0.0, seed=1)
    values = column(table, "accuracy").reshape(3, 3, 3)
    best = np.unravel_index(values.argmax(), values.shape)
    for axis, option in enumerate(best):
        assert np.all(values.argmax(axis=axis) == option)
    assert (values.min(), values.max()) == (0.5, 0.95)
    costs = column(table, "cost")
    assert np.argmax(costs) == np.argmax(values) and 3 <= costs.min() < costs.max() <= 30


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: found(batch=30, evaluations=21), "evaluations is 21, but the first round of the search takes 30."),
        (lambda: found(limit=1.0), "cost.limit is 1, which no architecture of the table meets: those listed cost "),
        (lambda: answers(TABLE, "acuracy"), "unknown metric of the table 'acuracy'; did you mean 'accuracy'?"),
        (lambda: answers(TABLE, "accuracy", trainings=("costs",)), "did you mean 'cost'?"),
        (lambda: answers(TABLE, "accuracy", noise=-1.0), "the noise of a table's answers is -1.0"),
        (lambda: answers(TABLE, "accuracy", missing="best"), "unknown way to answer for missing architectures 'best'"),
        (lambda: dense(Table(cell_space(2), ("a",), {}, np.zeros((0, 1))), np.zeros(0)), "every combination of opt"),
        (lambda: dense(Table(large(), ("a",), {}, np.zeros((0, 1))), np.zeros(0)), f"at most {LARGEST:,}; give it"),
    ],
)
def test_mistakes(make, message):
    with pytest.raises(UserError) as error:
        make()
    assert message in str(error.value)


def large():
    return product_space("large", {"a": ("0", "1")}, {"a": 30})
