import pytest

from jaxnas.core.errors import UserError
from jaxnas.networks.cell_operations import OPERATIONS
from jaxnas.spaces.cell import DENSE_NORMAL, POOLING_REDUCE, architecture, cell_space, genotype
from jaxnas.spaces.genotype import KNOWN_OPERATIONS, format_genotype, parse_genotype
from jaxnas.spaces.zoo import ZOO, Genotype

SMALL = Genotype((("sep_conv_3x3", 1), ("skip_connect", 0)), (2,), (("max_pool_3x3", 0), ("max_pool_3x3", 1)), (2,))
TEXT = (
    "Genotype(normal=[('sep_conv_3x3', 1), ('skip_connect', 0)], normal_concat=range(2, 3), "
    "reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1)], reduce_concat=range(2, 3))"
)
# As the second-order cell of DARTS is printed in the paper's published code.
DARTS_V2 = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_3x3', 1), "
    "('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), ('dil_conv_3x3', 2)], "
    "normal_concat=[2, 3, 4, 5], reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), "
    "('max_pool_3x3', 1), ('max_pool_3x3', 0), ('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1)], "
    "reduce_concat=[2, 3, 4, 5])"
)

# (operation, source) pairs of both cells, as a research log of searches in a modified P-DARTS (June 2021) prints them.
LOG = [
    (
        "('conv 3x3', 0), ('conv 3x3', 1), ('conv 3x3', 0), ('conv 3x3', 1), "
        "('conv 3x3', 0), ('conv 3x3', 1), ('conv 3x3', 0), ('conv 3x3', 1)",
        "('max_pool_3x3', 0), ('max_pool_3x3', 1), ('max_pool_5x5', 0), ('max_pool_3x3', 1), "
        "('max_pool_3x3', 1), ('avg_pool_3x3', 3), ('max_pool_3x3', 0), ('max_pool_5x5', 1)",
    ),
    (
        "('conv 3x3', 0), ('conv 3x3', 1), ('conv 3x3', 0), ('conv 3x3', 1), "
        "('conv 3x3', 0), ('conv 3x3', 1), ('conv 3x3', 0), ('conv 3x3', 1)",
        "('max_pool_3x3', 0), ('max_pool_3x3', 1), ('max_pool_3x3', 0), ('max_pool_5x5', 1), "
        "('skip_connect', 2), ('skip_connect', 3), ('skip_connect', 1), ('avg_pool_3x3', 3)",
    ),
    (
        "('dil_conv_3x3', 0), ('sep_conv_5x5', 1), ('conv 3x3', 0), ('conv_3x1_1x3', 1), "
        "('conv 3x3', 0), ('conv 3x3', 1), ('conv_3x1_1x3', 1), ('conv 3x3', 2)",
        "('max_pool_7x7', 0), ('max_pool_3x3', 1), ('max_pool_7x7', 0), ('avg_pool_3x3', 2), "
        "('max_pool_7x7', 1), ('max_pool_5x5', 3), ('max_pool_7x7', 0), ('max_pool_3x3', 1)",
    ),
    (
        "('skip_connect', 0), ('conv 1x1', 1), ('conv 1x1', 0), ('dil_conv_3x3', 2), "
        "('conv 1x1', 0), ('conv 1x1', 1), ('conv 1x1', 0), ('conv 1x1', 1)",
        "('max_pool_5x5', 0), ('max_pool_5x5', 1), ('max_pool_7x7', 0), ('max_pool_3x3', 1), "
        "('max_pool_5x5', 0), ('max_pool_3x3', 2), ('max_pool_5x5', 0), ('skip_connect', 1)",
    ),
    (
        "('skip_connect', 0), ('skip_connect', 1), ('conv 1x1', 0), ('skip_connect', 1), "
        "('conv 1x1', 0), ('skip_connect', 1), ('skip_connect', 0), ('skip_connect', 1)",
        "('max_pool_7x7', 0), ('max_pool_5x5', 1), ('max_pool_7x7', 0), ('max_pool_3x3', 2), "
        "('max_pool_5x5', 1), ('max_pool_3x3', 2), ('avg_pool_3x3', 1), ('max_pool_5x5', 2)",
    ),
    (
        "('sep_conv_3x3', 0), ('conv 1x1', 1), ('sep_conv_3x3', 0), ('conv 1x1', 1), "
        "('conv 1x1', 0), ('conv 1x1', 1), ('conv 1x1', 0), ('conv 1x1', 1)",
        "('max_pool_5x5', 0), ('avg_pool_3x3', 1), ('max_pool_3x3', 0), ('avg_pool_3x3', 1), "
        "('max_pool_5x5', 1), ('avg_pool_3x3', 3), ('max_pool_3x3', 0), ('skip_connect', 2)",
    ),
    (
        "('conv 1x1', 0), ('conv 1x1', 1), ('skip_connect', 0), ('skip_connect', 1), "
        "('sep_conv_3x3', 0), ('conv 1x1', 1), ('conv 1x1', 0), ('sep_conv_3x3', 2)",
        "('max_pool_7x7', 0), ('max_pool_3x3', 1), ('max_pool_5x5', 0), ('skip_connect', 2), "
        "('max_pool_5x5', 1), ('avg_pool_3x3', 3), ('skip_connect', 1), ('max_pool_3x3', 4)",
    ),
    (
        "('conv 1x1', 0), ('conv 3x3', 1), ('conv 1x1', 0), ('conv 3x3', 1), "
        "('conv 1x1', 0), ('conv 3x3', 1), ('conv_3x1_1x3', 0), ('conv 3x3', 1)",
        "('max_pool_5x5', 0), ('max_pool_3x3', 1), ('max_pool_5x5', 0), ('avg_pool_3x3', 1), "
        "('max_pool_3x3', 0), ('avg_pool_3x3', 3), ('max_pool_3x3', 2), ('max_pool_3x3', 3)",
    ),
    (
        "('conv 1x1', 0), ('conv 1x1', 1), ('skip_connect', 0), ('conv 3x3', 1), "
        "('conv 1x1', 0), ('conv 3x3', 1), ('conv_3x1_1x3', 0), ('conv 3x3', 1)",
        "('max_pool_3x3', 0), ('avg_pool_3x3', 1), ('max_pool_3x3', 1), ('avg_pool_3x3', 2), "
        "('max_pool_5x5', 0), ('skip_connect', 2), ('max_pool_5x5', 1), ('avg_pool_3x3', 3)",
    ),
    (
        "('conv 3x3', 0), ('conv 3x3', 1), ('conv 1x1', 0), ('conv 1x1', 1), "
        "('sep_conv_3x3', 0), ('conv 1x1', 2), ('conv 1x1', 0), ('dil_conv_3x3', 1)",
        "('max_pool_5x5', 0), ('avg_pool_3x3', 1), ('max_pool_5x5', 0), ('max_pool_3x3', 1), "
        "('max_pool_3x3', 0), ('avg_pool_3x3', 1), ('max_pool_3x3', 2), ('avg_pool_3x3', 4)",
    ),
    (
        "('conv 1x1', 0), ('conv 1x1', 1), ('sep_conv_3x3', 0), ('conv 1x1', 1), "
        "('skip_connect', 0), ('skip_connect', 1), ('skip_connect', 0), ('conv 3x3', 1)",
        "('max_pool_3x3', 0), ('skip_connect', 1), ('max_pool_3x3', 1), ('avg_pool_3x3', 2), "
        "('max_pool_3x3', 0), ('max_pool_5x5', 3), ('max_pool_5x5', 1), ('avg_pool_3x3', 2)",
    ),
    (
        "('skip_connect', 0), ('skip_connect', 1), ('skip_connect', 0), ('conv_3x1_1x3', 1), "
        "('skip_connect', 0), ('conv 1x1', 1), ('skip_connect', 0), ('skip_connect', 1)",
        "('max_pool_3x3', 0), ('max_pool_3x3', 1), ('max_pool_5x5', 0), ('skip_connect', 2), "
        "('avg_pool_3x3', 2), ('avg_pool_3x3', 3), ('max_pool_5x5', 0), ('avg_pool_3x3', 3)",
    ),
    (
        "('skip_connect', 0), ('skip_connect', 1), ('skip_connect', 0), ('skip_connect', 1), "
        "('skip_connect', 2), ('skip_connect', 3), ('skip_connect', 2), ('skip_connect', 3)",
        "('max_pool_5x5', 0), ('max_pool_3x3', 1), ('max_pool_3x3', 1), ('skip_connect', 2), "
        "('skip_connect', 1), ('avg_pool_3x3', 3), ('max_pool_5x5', 0), ('max_pool_3x3', 1)",
    ),
    (
        "('conv 1x1', 0), ('sep_conv_3x3', 1), ('conv 1x1', 0), ('conv 3x3', 1), "
        "('conv 1x1', 0), ('conv 3x3', 1), ('skip_connect', 0), ('conv 1x1', 1)",
        "('max_pool_5x5', 0), ('avg_pool_3x3', 1), ('max_pool_7x7', 0), ('max_pool_3x3', 2), "
        "('skip_connect', 1), ('max_pool_3x3', 3), ('max_pool_5x5', 0), ('max_pool_5x5', 2)",
    ),
    (
        "('conv 1x1', 0), ('conv_3x1_1x3', 1), ('skip_connect', 0), ('conv 3x3', 1), "
        "('conv 1x1', 0), ('conv 3x3', 1), ('conv 1x1', 0), ('conv 3x3', 1)",
        "('max_pool_5x5', 0), ('max_pool_3x3', 1), ('max_pool_5x5', 0), ('max_pool_3x3', 2), "
        "('max_pool_3x3', 0), ('avg_pool_3x3', 3), ('max_pool_5x5', 0), ('skip_connect', 1)",
    ),
    (
        "('conv 1x1', 0), ('sep_conv_3x3', 1), ('skip_connect', 0), ('conv 3x3', 1), "
        "('skip_connect', 0), ('conv 1x1', 1), ('skip_connect', 0), ('conv_3x1_1x3', 1)",
        "('max_pool_5x5', 0), ('max_pool_3x3', 1), ('max_pool_7x7', 0), ('avg_pool_3x3', 1), "
        "('max_pool_3x3', 0), ('max_pool_7x7', 3), ('max_pool_7x7', 0), ('max_pool_3x3', 1)",
    ),
]


def printed(cells):
    """Both cells as the log prints them."""
    normal, reduce = cells
    return f"Genotype(normal=[{normal}], normal_concat=range(2, 6), reduce=[{reduce}], reduce_concat=range(2, 6))"


def test_the_notation():
    assert format_genotype(SMALL) == TEXT
    assert format_genotype(ZOO["DARTS_V2"]) == DARTS_V2.replace("[2, 3, 4, 5]", "range(2, 6)")
    assert format_genotype(ZOO["AmoebaNet"]).endswith("reduce_concat=[3, 4, 6])")


@pytest.mark.parametrize("name", ZOO)
def test_parsing_undoes_formatting(name):
    assert parse_genotype(format_genotype(ZOO[name])) == ZOO[name] == parse_genotype(f" {name}\n")


@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        TEXT.replace("range(2, 3)", "[2]"),
        TEXT.replace("range(2, 3)", "(2,)"),
        TEXT.replace("range(2, 3)", "range(2, 3, 1)"),
        TEXT.replace("[(", "((").replace(")]", "))"),
        TEXT.replace("('skip_connect', 0)", "['skip_connect', 0]"),
        "\n" + TEXT.replace(", ", ",\n  ").replace("'", '"') + "\n",
    ],
)
def test_other_ways_to_write_the_same(text):
    assert parse_genotype(text) == SMALL


def test_a_published_genotype_as_published():
    assert parse_genotype(DARTS_V2) == ZOO["DARTS_V2"]


@pytest.mark.parametrize("cells", LOG)
def test_the_genotypes_of_the_log(cells):
    """They parse to what is printed, and every one is a point of the log's space, up to the order of a node's edges."""
    found = parse_genotype(printed(cells))
    assert format_genotype(found) == printed(cells)
    space = cell_space(operations=DENSE_NORMAL, reduce_operations=POOLING_REDUCE)
    back = genotype(space, architecture(space, found))
    assert [sorted(edges) for edges in (back.normal, back.reduce)] == [
        sorted(edges) for edges in (found.normal, found.reduce)
    ]


@pytest.mark.parametrize(
    "line",
    [
        "2021-06-08 08:05:49,110 {}",
        "    2021-06-15 16:49:44,642 {}\n",
        "2021-06-08 17:28:42,902 {}2021-06-08 17:28:42,902 Restricting skipconnect...2021-06-08 17:28:42,924 Total "
        "searching time: 67876s",
        "{}2021-06-08 17:28:42,902 Restricting skipconnect... (all of them)",
        "03/25 10:12:13 AM genotype = {}",
        "2021-06-08 08:05:49,110 {}\n2021-06-08 08:05:49,146 Total searching time: 61883s    --  17hours",
    ],
)
def test_a_genotype_in_a_line_of_a_log(line):
    assert parse_genotype(line.format(TEXT)) == SMALL


def test_both_spellings_of_two_convolutions():
    texts = [TEXT.replace("sep_conv_3x3", name) for name in ("conv 1x1_3x3", "conv_1x1_3x3")]
    assert {parse_genotype(text).normal[0] for text in texts} == {("conv_1x1_3x3", 1)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("DARTS_V3", "did you mean 'DARTS_V2'"),
        ("", "unknown genotype ''"),
        ("Genotype(", r"cannot be read: '\(' was never closed at column 9"),
        ("(" * 3000, "cannot be read"),
        ("Genotype(\0)", "cannot be read"),
        ("print('a')", "is written as Genotype"),
        (f"print({TEXT})", "is written as Genotype"),
        (f"{TEXT} + 1", "is written as Genotype"),
        (f"{TEXT})", "cannot be read: unmatched"),
        (f"{TEXT} more", "cannot be read: invalid syntax"),
        (f"2021-06-08 08:05:49,110 {TEXT}2021-06-08 {TEXT}", "more than one Genotype"),
        (f"2021-06-08 08:05:49,110 {TEXT[:-1]}", "cannot be read: '.' was never closed at column 9"),
        (f"2021-06-08 08:05:49,110 {TEXT} + 1", "is written as Genotype"),
        (f"2021-06-08 08:05:49,110 {TEXT.replace('skip_connect', 'skip_conect')}", "did you mean 'skip_connect'"),
        ("Genotype([], [], [], [])", "have to be named"),
        ("Genotype(**{})", "unknown genotype field"),
        (TEXT.replace("reduce=", "reduced="), "unknown genotype field 'reduced'; did you mean 'reduce'"),
        (TEXT.replace(", reduce_concat=range(2, 3)", ""), "lacks the field reduce_concat"),
        (TEXT.replace("reduce_concat", "normal_concat"), "gives the field normal_concat twice"),
        (TEXT.replace("('sep_conv_3x3', 1)", "sep_conv_3x3"), "normal of the genotype, at column 17"),
        (TEXT.replace("range(2, 3)", "range(2, 3, 0)"), "normal_concat of the genotype, at column 75"),
        (TEXT.replace("range(2, 3)", "range(__import__('os'))"), "normal_concat of the genotype, at column 75"),
        (TEXT.replace("range(2, 3)", "2"), "normal_concat of the genotype has to be a list, not 2"),
        (TEXT.replace("range(2, 3)", "['2']"), "normal_concat of the genotype has to hold state numbers, not '2'"),
        (TEXT.replace("range(2, 3)", "[]"), "at least one state"),
        (TEXT.replace("range(2, 3)", "[2, 2]"), "each only once"),
        (TEXT.replace("range(2, 3)", "range(2, 4)"), "normal_concat names state 3, .* are states 2 to 2"),
        (TEXT.replace("range(2, 3)", "range(2, 1000000000000000000000)"), "normal_concat names state 3"),
        (TEXT.replace("range(2, 3)", "[1]"), "normal_concat names state 1"),
        (TEXT.replace("('skip_connect', 0)", "('skip_connect', 2)"), "edge 1 of normal, .* can read states 0 to 1"),
        (TEXT.replace("('skip_connect', 0)", "('skip_connect', -1)"), "edge 1 of normal, .* reads state -1"),
        (TEXT.replace("('skip_connect', 0)", "('skip_connect', True)"), "edge 1 of normal is"),
        (TEXT.replace("('skip_connect', 0)", "('skip_connect',)"), "edge 1 of normal is"),
        (TEXT.replace("skip_connect", "skip_conect"), "edge 1 of normal: 'skip_conect'; did you mean 'skip_connect'"),
        (TEXT.replace(", ('skip_connect', 0)", ""), "normal of the genotype has 1 edges"),
        (TEXT.replace("('max_pool_3x3', 0), ('max_pool_3x3', 1)", ""), "reduce of the genotype has 0 edges"),
    ],
)
def test_mistakes_are_named_and_placed(text, message):
    with pytest.raises(UserError, match=message):
        parse_genotype(text)


def test_every_known_operation_can_be_built():
    assert set(KNOWN_OPERATIONS) == set(OPERATIONS)
