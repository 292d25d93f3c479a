"""Latency tables as files, as costs of gates and as predictions; what is timed is counted, not how long it takes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from scipy import stats

from configs.search import spaces
from jaxnas.core.errors import UserError
from jaxnas.costs import timing
from jaxnas.costs.latency import LatencyTable, Timing, latency_cost, read_latency_table, write_latency_table
from jaxnas.costs.terms import components
from jaxnas.costs.timing import (
    Program,
    check_prediction,
    compare,
    compile_program,
    measure_latency,
    summary,
    time_programs,
)
from jaxnas.networks.cell_operations import OPERATIONS
from jaxnas.networks.families import FAMILIES
from jaxnas.networks.family import Component, Images, Term
from jaxnas.spaces.product import product_space
from jaxnas.spaces.space import encode

IMAGES = Images(4, 4, 2, classes=3)
COMMENTS = "# jaxnas latency table, version 1\n# device: phone, core 1\n# units: ms\n# a remark\n"
TOP = COMMENTS + "component,milliseconds,spread\n"
SPACE = product_space("two", {"block": ("none", "skip", "conv")}, {"block": 2})


class Tiny(nn.Module):
    """The identity, or a 1x1 convolution, one after another, and the means."""

    blocks: tuple[int, ...]

    @nn.compact
    def __call__(self, images, *, train, drop_path_rate=0.0):
        del train, drop_path_rate
        for option in self.blocks:
            images = nn.Conv(2, (1, 1))(images) if option == 2 else images
        return jnp.mean(images, axis=(1, 2)), None


def family():
    """Two choices of a convolution or nothing; the second layer runs its convolution twice."""
    piece = Component("conv 2x4x4", OPERATIONS["conv 1x1"](2, 1, None, "conv"), (4, 4, 2))
    other = Component("conv, other", OPERATIONS["conv 1x1"](2, 1, None, "conv"), (4, 4, 2))
    pieces = np.empty((2, 3), object)
    for row in range(2):
        pieces[row] = (), (), (piece,) if row == 0 else (piece, other)
    terms = [Term((("block", row),), pieces[row]) for row in range(2)]
    own = FAMILIES["nas_bench_201"](
        Images(8, 8, 2, 3), **{k: v for k, v in spaces.NAS_BENCH_201_8.items() if k != "name"}
    )
    return own._replace(
        space=SPACE,
        network=lambda architecture, axis_name: Tiny(tuple(int(option) for option in architecture["block"])),
        terms=lambda: terms,
    )


def test_tables_survive_being_written(tmp_path):
    """Names with commas, a spread that is not known, and a rest below zero."""
    rows = {"conv 2x4x4": Timing(0.25, 0.01), "conv, other": Timing(1.5), "rest": Timing(-0.125, 0.5)}
    table = LatencyTable(rows, {"device": "cpu", "family": "two", "units": "ms", "batch_size": "1"})
    write_latency_table(tmp_path / "table.csv", table)
    assert read_latency_table(tmp_path / "table.csv") == table
    assert (tmp_path / "table.csv").read_text().startswith("# jaxnas latency table, version 1\n")


@pytest.mark.parametrize("text", [TOP + "a,1\nb,2,\n", TOP.replace(",spread", "") + "\na,1\n b , 2.0\n"])
def test_tables_from_elsewhere(text, tmp_path):
    (tmp_path / "table.csv").write_text(text)
    table = read_latency_table(tmp_path / "table.csv")
    assert table.rows == {"a": Timing(1.0), "b": Timing(2.0)}
    assert table.about == {"device": "phone, core 1", "units": "ms"}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (TOP + "a,fast,0\n", "line 6 of the latency table .* has 'fast', which is not a number"),
        (TOP + "a,1,0\nb,-2,0\n", "line 7 .* has -2, but milliseconds are not negative"),
        (TOP + "a,1,-1\n", "line 6 .* has -1, but milliseconds are not negative"),
        (TOP + "a,nan,0\n", "line 6 .* has 'nan', which is not a finite number"),
        (TOP + "a,1,inf\n", "line 6 .* has 'inf', which is not a finite number"),
        (TOP + "a,1,0\nb,1,0\na,2,0\n", "line 8 .* names the component 'a' a second time"),
        (TOP + "a\n", "line 6 .* is 'a', but has to be a component, its milliseconds and their spread"),
        (TOP + "conv, other,1,0\n", "line 6 .* is 'conv, other,1,0', but has to be"),
        (TOP.replace("version 1", "version 2") + "a,1\n", "line 1 .* says 'jaxnas latency table, version 2', but"),
        (TOP.partition("\n")[2] + "a,1\n", "does not say its version; line 1 has to be"),
        (TOP.replace("ms\n", "s\n") + "a,1\n", "line 3 .* has the units 's', but this program reads 'ms'"),
        (TOP.replace("# units: ms\n", "") + "a,1\n", "does not say its units"),
        (TOP.replace("component,", "name,") + "a,1\n", "line 5 .* has to be the header component,milliseconds,spread"),
        (TOP, "is empty: it has no row of a component"),
        (COMMENTS, "is empty: it has no header"),
        (TOP + "rest,1,0\n", "is empty: it has no row of a component"),
    ],
)
def test_mistakes_in_tables(text, sentence, tmp_path):
    (tmp_path / "table.csv").write_text(text)
    with pytest.raises(UserError, match=sentence) as caught:
        read_latency_table(tmp_path / "table.csv")
    assert "\n" not in str(caught.value)


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(UserError, match="cannot be read: No such file"):
        read_latency_table(tmp_path / "table.csv")
    with pytest.raises(UserError, match="cannot be written: No such file"):
        write_latency_table(tmp_path / "folder" / "table.csv", LatencyTable({}, {}))


@pytest.mark.parametrize(("rest", "base"), [({}, 0.0), ({"rest": Timing(8.0)}, 8.0)])
def test_latency_is_the_sum_of_pieces_and_rest(rest, base):
    """Also expected: half of the first convolution and a quarter of the second layer's two."""
    cost = latency_cost(
        family(), IMAGES, LatencyTable({"conv 2x4x4": Timing(1.0), "conv, other": Timing(2.0), **rest}, {})
    )
    for options, milliseconds in {(0, 0): 0, (1, 1): 0, (2, 0): 1, (0, 2): 3, (2, 2): 4}.items():
        assert cost(encode(SPACE, {"block": jnp.asarray(options)})) == base + milliseconds
    assert cost({"block": jnp.asarray([[0.5, 0.0, 0.5], [0.25, 0.5, 0.25]])}) == base + 0.5 + 0.75


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ({"other": Timing(1.0)}, "lacks the component 'conv 2x4x4' and 1 more that two has for images of 4x4x2"),
        ({"conv 2x4x4": Timing(1.0)}, "the latency table lacks the component 'conv, other' that two has"),
    ],
)
def test_components_that_a_table_lacks(rows, sentence):
    with pytest.raises(UserError, match=sentence):
        latency_cost(family(), IMAGES, LatencyTable(rows, {"family": "two"}))


def test_a_table_of_another_family():
    """Its pieces may have the same names and be others."""
    rows = {"conv 2x4x4": Timing(1.0), "conv, other": Timing(2.0)}
    with pytest.raises(UserError, match="is of the family 'fbnet', but the space is 'two'"):
        latency_cost(family(), IMAGES, LatencyTable(rows, {"family": "fbnet"}))


def test_a_program_runs_the_module_as_often_as_it_is_told():
    """A module that counts its runs; shapes change, and the output of one run decides the input of the next."""
    seen = []

    class Counting(nn.Module):
        @nn.compact
        def __call__(self, images, train):
            jax.debug.callback(lambda value: seen.append(float(value)), images[0, 0, 0, 0], ordered=True)
            return nn.Dense(3)(images[:, ::2]) + 1

    program = compile_program(Counting(), (4, 4, 2), 2)
    seen.clear()
    program.call(5)
    jax.effects_barrier()
    assert len(seen) == 5 * program.inner
    assert seen[0] == 0 and len(set(seen)) > 1


def test_repetitions_are_interleaved_and_counts_are_divided(monkeypatch):
    """By a clock that a call of program i moves by (i + 1) ms an iteration."""
    calls, clock = [], [0.0]

    def made(number, inner):
        def call(count):
            calls.append(number)
            clock[0] += 1e-3 * (number + 1) * count * inner

        return Program(call, inner)

    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock[0])
    found = time_programs({"one": made(0, 1), "two": made(1, 4)}, 3)
    np.testing.assert_allclose(found["one"], [1.0] * 3, rtol=1e-6)
    np.testing.assert_allclose(found["two"], [2.0] * 3, rtol=1e-6)
    assert calls[-6:] == [0, 1] * 3
    with pytest.raises(UserError, match="at least 1 of repeats, not 0"):
        time_programs({}, 0)


def test_summary_is_median_and_interquartile_range():
    assert summary([5.0, 1.0, 2.0, 3.0, 4.0]) == Timing(3.0, 2.0)


def test_a_family_is_measured(monkeypatch):
    """Every component and the rest, which makes the table's sums what the networks took: checked with given times."""
    times = {"conv 2x4x4": [1.0], "conv, other": [2.0]}
    monkeypatch.setattr(timing, "time_programs", lambda programs, repeats: {n: times.get(n, [10.0]) for n in programs})
    made = family()
    drawn = []
    whole = made.network
    made = made._replace(network=lambda architecture, axis: drawn.append(architecture) or whole(architecture, axis))
    table = measure_latency(made, IMAGES, jax.random.key(1), repeats=1, networks=3)
    assert set(table.rows) == {*components(made.terms()), "rest"}
    sums = [{0: 0, 1: 0, 2: 1}[int(a["block"][0])] + {0: 0, 1: 0, 2: 3}[int(a["block"][1])] for a in drawn]
    assert table.rows["rest"].milliseconds == 10 - np.median(sums)
    assert table.about["device"] == "cpu" and table.about["family"] == "two" and table.about["units"] == "ms"
    with pytest.raises(UserError, match="at least 1 of networks, not 0"):
        measure_latency(made, IMAGES, jax.random.key(1), networks=0)


def test_predictions_are_compared_with_whole_networks():
    """Really measured, so only what holds on any machine: as many networks, positive times, the cost's predictions."""
    table = LatencyTable({"conv 2x4x4": Timing(1.0), "conv, other": Timing(2.0)}, {})
    found = check_prediction(family(), IMAGES, latency_cost(family(), IMAGES, table), 2, jax.random.key(0), repeats=1)
    assert found.measured.shape == (2,) and np.all(found.measured > 0)
    assert set(found.predicted) <= {0.0, 1.0, 3.0, 4.0}
    with pytest.raises(UserError, match="at least 2 networks, not 1"):
        check_prediction(family(), IMAGES, lambda gates: jnp.zeros(()), 1, jax.random.key(0))


@pytest.mark.parametrize("ties", [False, True])
def test_agreement(ties):
    """Rank correlations are scipy's, with ties too; errors are relative to what was measured."""
    rng = np.random.default_rng(0)
    predicted, measured = rng.uniform(1, 2, (2, 9)).round(1 if ties else 9)
    found = compare(predicted, measured)
    wanted = stats.spearmanr(predicted, measured)[0], stats.kendalltau(predicted, measured)[0]
    np.testing.assert_allclose((found.spearman, found.kendall), wanted, rtol=1e-12)
    exact = compare(np.asarray([1.5, 2.0]), np.asarray([1.0, 4.0]))
    np.testing.assert_allclose((exact.error, exact.bias, exact.spearman, exact.kendall), (0.5, 0.0, 1.0, 1.0))
    assert np.isnan(compare(np.ones(3), np.arange(1.0, 4.0)).kendall)
