"""Genotypes in the literature's notation: written, read and checked. Reading never evaluates code.

The notation is that of Liu, Simonyan & Yang 2019's published code, which most later work shares:
`Genotype(normal=[('sep_conv_3x3', 1), ...], normal_concat=range(2, 6), reduce=[...], reduce_concat=range(2, 6))`.
"""

import ast
import itertools
import re
import warnings

from jaxnas.core.errors import UserError, choose, unknown
from jaxnas.spaces.zoo import ZOO, Edges, Genotype

__all__ = ["KNOWN_OPERATIONS", "Genotype", "check_genotype", "format_genotype", "parse_genotype"]

KNOWN_OPERATIONS = (
    "none",
    "max_pool_3x3",
    "max_pool_5x5",
    "max_pool_7x7",
    "avg_pool_3x3",
    "avg_pool_5x5",
    "avg_pool_7x7",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "sep_conv_7x7",
    "dil_conv_3x3",
    "dil_conv_5x5",
    "conv 1x1",
    "conv 3x3",
    "conv_1x1_3x3",
    "conv_3x1_1x3",
    "conv_7x1_1x7",
)
OTHER_SPELLINGS = {"conv 1x1_3x3": "conv_1x1_3x3"}
CALL = "Genotype("


def format_genotype(genotype: Genotype) -> str:
    """Writes a genotype on one line; runs of consecutive states as range(first, last + 1), others as a list."""
    fields = {
        "normal": list(genotype.normal),
        "normal_concat": _format_concat(genotype.normal_concat),
        "reduce": list(genotype.reduce),
        "reduce_concat": _format_concat(genotype.reduce_concat),
    }
    return f"Genotype({', '.join(f'{name}={value}' for name, value in fields.items())})"


def _format_concat(concat: tuple[int, ...]) -> str:
    span = range(concat[0], concat[0] + len(concat))
    return str(span) if tuple(span) == tuple(concat) else str(list(concat))


def parse_genotype(text: str) -> Genotype:
    """Reads the name of a published genotype (`spaces.zoo.ZOO`) or a genotype in the literature's notation.

    Lists and tuples are the same, a concat may be written as range(...), and the call may stand in a line of a log,
    where what comes before and after it begins with a time stamp.
    Raises UserError, saying what is wrong and where, for anything else.
    """
    text = text.strip()
    if "(" not in text:
        return choose("genotype", text, ZOO)
    fields = _fields(_call_in(text))
    genotype = Genotype(
        normal=_edges("normal", fields["normal"]),
        normal_concat=_concat("normal_concat", fields["normal_concat"], len(fields["normal"])),
        reduce=_edges("reduce", fields["reduce"]),
        reduce_concat=_concat("reduce_concat", fields["reduce_concat"], len(fields["reduce"])),
    )
    check_genotype(genotype)
    return genotype


def _call_in(text: str) -> str:
    """The balanced Genotype(...) in a line of a log; what is not one stays. UserError for a line with two of them."""
    before, call, after = text.partition(CALL)
    if not call or not _is_log(before):
        return text
    depth = 1
    for token in re.finditer(r"'[^']*'|\"[^\"]*\"|[()]", after):
        depth += {"(": 1, ")": -1}.get(token[0], 0)
        if depth == 0:
            rest = after[token.end() :]
            if CALL in rest:
                raise UserError("the text holds more than one Genotype(...); keep the one that is meant.")
            return call + (after[: token.end()] if _is_log(rest) else after)
    return call + after


def _is_log(text: str) -> bool:
    """Whether the text is empty or, as what a logger writes, begins with a time stamp's digits."""
    return re.match(r"\s*(\d+[-/:.]\d|$)", text) is not None


def _fields(text: str) -> dict[str, list | tuple | range]:
    """The four arguments of the call that `text` has to be, as plain values."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the parser warns of odd escapes and calls, which are reported below
            call = ast.parse(text, mode="eval").body
    except SyntaxError as error:
        raise UserError(f"the genotype cannot be read: {error.msg} at column {error.offset or 1}.") from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise UserError(f"the genotype cannot be read: {error}.") from error
    if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "Genotype"):
        raise UserError(
            f"a genotype is a published name ({', '.join(ZOO)}) or is written as Genotype(normal=[...], ...)."
        )
    if call.args:
        names = ", ".join(f"{name}=" for name in Genotype._fields)
        raise UserError(f"the fields of a genotype have to be named ({names}), but the first one is not.")
    fields: dict[str, list | tuple | range] = {}
    for keyword in call.keywords:
        name = keyword.arg or "**"
        if name not in Genotype._fields:
            raise unknown("genotype field", name, Genotype._fields)
        if name in fields:
            raise UserError(f"the genotype gives the field {name} twice.")
        fields[name] = _literal(name, keyword.value)
    missing = [name for name in Genotype._fields if name not in fields]
    if missing:
        raise UserError(f"the genotype lacks the field {missing[0]}.")
    return fields


def _literal(name: str, node: ast.expr) -> list | tuple | range:
    """A list or tuple, or range(...) of integers."""
    is_range = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "range"
    try:
        if is_range and isinstance(node, ast.Call) and not node.keywords:
            return range(*(ast.literal_eval(argument) for argument in node.args))
        value = ast.literal_eval(node)
    except (ValueError, TypeError, RecursionError) as error:
        raise UserError(
            f"{name} of the genotype, at column {node.col_offset + 1}, is not made of names and numbers."
        ) from error
    if not isinstance(value, list | tuple):
        raise UserError(f"{name} of the genotype has to be a list, not {value!r}.")
    return value


def _edges(name: str, values: list | tuple | range) -> Edges:
    edges: list[tuple[str, int]] = []
    for number, value in enumerate(values):
        match value:
            case (str(operation), int(source)) if not isinstance(source, bool):
                edges.append((OTHER_SPELLINGS.get(operation, operation), source))
            case _:
                raise UserError(f"edge {number} of {name} is {value!r}, but has to look like ('sep_conv_3x3', 1).")
    return tuple(edges)


def _concat(name: str, values: list | tuple | range, edges: int) -> tuple[int, ...]:
    """The states of a concat; a range far too long is cut where the check still sees that it leaves the cell."""
    for value in itertools.islice(values, edges):
        if type(value) is not int:
            raise UserError(f"{name} of the genotype has to hold state numbers, not {value!r}.")
    return tuple(itertools.islice(values, edges + 1))


def check_genotype(genotype: Genotype) -> None:
    """Raises UserError unless every edge has a known operation and an existing source, and every concat exists."""
    _check_cell("normal", genotype.normal, genotype.normal_concat)
    _check_cell("reduce", genotype.reduce, genotype.reduce_concat)


def _check_cell(name: str, edges: Edges, concat: tuple[int, ...]) -> None:
    if not edges or len(edges) % 2:
        raise UserError(f"{name} of the genotype has {len(edges)} edges, but every node needs two.")
    for number, (operation, source) in enumerate(edges):
        if operation not in KNOWN_OPERATIONS:
            raise unknown(f"operation in edge {number} of {name}:", operation, KNOWN_OPERATIONS)
        newest = 1 + number // 2
        if not 0 <= source <= newest:
            raise UserError(
                f"edge {number} of {name}, ({operation!r}, {source}), reads state {source}, "
                f"but its node can read states 0 to {newest} only."
            )
    last = 1 + len(edges) // 2
    outside = [state for state in concat if not 2 <= state <= last]
    if outside:
        raise UserError(f"{name}_concat names state {outside[0]}, but the nodes of the cell are states 2 to {last}.")
    if not concat or len(set(concat)) < len(concat):
        raise UserError(f"{name}_concat is {list(concat)}, but has to name at least one state, and each only once.")
