import pytest

from jaxnas.core.errors import UserError
from jaxnas.networks.cell_operations import OPERATIONS
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


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("DARTS_V3", "did you mean 'DARTS_V2'"),
        ("", "unknown genotype ''"),
        ("Genotype(", r"cannot be read: '\(' was never closed at column 9"),
        ("(" * 3000, "cannot be read"),
        ("Genotype(\0)", "cannot be read"),
        ("print('a')", "is written as Genotype"),
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
