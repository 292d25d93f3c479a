"""Tables of true accuracies: what is read, what is looked up, and every mistake by its line."""

import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.core.errors import UserError
from jaxnas.evaluate.tabular import column, lookup, read_table, true_history, true_values
from jaxnas.spaces.cell import cell_space
from jaxnas.spaces.nas_bench_201 import nas_bench_201_space
from jaxnas.spaces.product import product_space
from jaxnas.spaces.space import random

# Three choices among the digits 0, 1 and 2 in part "a", two among x and y in part "b": 27 · 4 architectures.
SPACE = product_space("toy", {"a": ("0", "1", "2"), "b": ("x", "y")}, {"a": 3, "b": 2})
LINES = (
    "architecture,accuracy,params",
    "a:0+0+0;b:x+x,10.5,100",
    "a:0+1+2;b:x+y,93.1,250",
    "a:2+2+2;b:y+y,50,1e3",
)


def write(path, *lines):
    path.write_text("\n".join(lines) + "\n")
    return path


def numbers(a, b):
    return {"a": jnp.asarray(a, jnp.int32), "b": jnp.asarray(b, jnp.int32)}


@pytest.fixture
def table(tmp_path):
    return read_table(write(tmp_path / "table.csv", *LINES), SPACE)


def test_a_table_is_what_its_file_says(table):
    assert table.metrics == ("accuracy", "params")
    assert list(table.rows) == [line.split(",")[0] for line in LINES[1:]]
    np.testing.assert_array_equal(table.values, [[10.5, 100], [93.1, 250], [50, 1000]])
    np.testing.assert_array_equal(column(table, "params"), [100, 250, 1000])
    np.testing.assert_allclose(column(table, "accuracy", 0.01), [0.105, 0.931, 0.5], rtol=1e-15)


@pytest.mark.parametrize(
    "written",
    [
        b"\xef\xbb\xbf%s\r\n%s\r\n",  # as spreadsheets write it
        b"%s\n\n%s\n\n",  # blank lines
        b"%s\n%s",  # no end of the last line
    ],
)
def test_files_of_other_programs(written, tmp_path):
    path = tmp_path / "table.csv"
    path.write_bytes(written % (LINES[0].encode(), LINES[2].encode()))
    assert lookup(read_table(path, SPACE), numbers([0, 1, 2], [0, 1]), "accuracy") == 93.1


def test_architectures_are_found_however_they_are_written(tmp_path):
    path = write(tmp_path / "table.csv", LINES[0], " a:0+1+2;b:x+y ,93.1, 250")
    assert lookup(read_table(path, SPACE), numbers([0, 1, 2], [0, 1]), "params", 2.0) == 500


@pytest.mark.parametrize("space", [nas_bench_201_space(), cell_space(2)], ids=lambda space: space.name)
def test_every_space_with_canonical_strings_can_have_a_table(space, tmp_path):
    drawn = [random(space, jax.random.key(seed)) for seed in range(4)]
    lines = [f'"{space.canonical(one)}",{number}' for number, one in enumerate(drawn)]
    table = read_table(write(tmp_path / "table.csv", "architecture,number", *lines), space)
    assert [lookup(table, one, "number") for one in drawn] == [0, 1, 2, 3]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *drawn)
    np.testing.assert_array_equal(true_values(table, stacked, "number"), [0, 1, 2, 3])


def test_the_history_of_a_search_is_looked_up_and_gaps_are_nan(table):
    history = {
        "architecture/a": np.array([[[0, 0, 0], [0, 1, 2], [0, 1, 2]], [[2, 2, 2], [1, 1, 1], [0, 0, 0]]]),
        "architecture/b": np.array([[[0, 0], [0, 1], [1, 1]], [[1, 1], [0, 0], [0, 0]]]),
        "valid_accuracy": np.zeros((2, 3)),
    }
    expected = [[0.105, 0.931, np.nan], [0.5, np.nan, 0.105]]
    np.testing.assert_allclose(true_history(table, history, "accuracy", 0.01), expected, rtol=1e-15)


def test_a_whole_space_agrees_with_a_formula(tmp_path):
    space = product_space("digits", {"a": tuple("012")}, {"a": 5})
    everything = np.array(list(itertools.product(range(3), repeat=5)))
    lines = [f"a:{'+'.join(map(str, row))},{row.sum()}" for row in everything]
    table = read_table(write(tmp_path / "table.csv", "architecture,sum", *lines), space)
    assert len(table.rows) == space.size == 3**5
    np.testing.assert_array_equal(true_values(table, {"a": everything}, "sum"), everything.sum(axis=1))
    np.testing.assert_array_equal(true_values(table, {"a": everything[7]}, "sum"), everything[7].sum())


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ((), "is empty; its first line is to be architecture,METRIC,..."),
        (("a:0+0+0;b:x+x,10.5",), "line 1 of the table .* begins with 'a:0\\+0\\+0;b:x\\+x'"),
        (("architecture",), "line 1 of the table .* names no metric"),
        (("architecture,acc,acc", "a:0+0+0;b:x+x,1,2"), "names a metric twice"),
        (LINES[:1], "has a header and no architectures"),
        ((*LINES[:2], "a:0+0+3;b:x+x,1,2"), "line 3 of the table .*: unknown option at choice 2 of a: '3'"),
        ((*LINES[:2], "1234,1,2"), "line 3 of the table .*: the architecture '1234' is not written"),
        ((*LINES[:3], "a:2+2+2;b:y+y,high,1"), "line 4 of the table .* has 'high' for accuracy, which is no finite"),
        ((*LINES[:3], "a:2+2+2;b:y+y,1,nan"), "line 4 of the table .* has 'nan' for params, which is no finite"),
        ((*LINES[:3], "a:2+2+2;b:y+y,1"), "line 4 of the table .* has 2 fields, but its header has 3"),
        ((*LINES[:3], "a:2+2+2;b:y+y,1,2,3"), "line 4 of the table .* has 4 fields, but its header has 3"),
        ((*LINES[:2], "", LINES[1]), "line 4 of the table .* lists the architecture .* again, which line 2 has"),
        ((*LINES[:2], 'a:2+2+2;b:y+y,"1,2'), "is not a CSV file: unexpected end of data"),
    ],
)
def test_mistakes_in_a_file(lines, message, tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("\n".join(lines))
    with pytest.raises(UserError, match=message) as error:
        read_table(path, SPACE)
    assert re.search(r"[^.]\.$|\.\.\.$", str(error.value)) and "\n" not in str(error.value)


def test_a_file_that_is_not_there_or_no_text(tmp_path):
    with pytest.raises(UserError, match=r"there is no table '.*none\.csv'\."):
        read_table(tmp_path / "none.csv", SPACE)
    with pytest.raises(UserError, match="cannot be read: Is a directory"):
        read_table(tmp_path, SPACE)
    (tmp_path / "binary.csv").write_bytes(b"architecture,\xff\xfe")
    with pytest.raises(UserError, match="is not a CSV file"):
        read_table(tmp_path / "binary.csv", SPACE)


def test_what_a_table_does_not_have(table):
    with pytest.raises(UserError, match=r"unknown metric of the table 'acuracy'; did you mean 'accuracy'\?"):
        lookup(table, numbers([0, 0, 0], [0, 0]), "acuracy")
    with pytest.raises(UserError, match=r"does not list the architecture 'a:1.*'; it has 3 of the 108 .* 'toy'\."):
        lookup(table, numbers([1, 1, 1], [0, 0]), "accuracy")
