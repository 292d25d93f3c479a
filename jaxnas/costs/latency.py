"""Measured latency: the pieces of a family's networks, timed in compiled programs, as a table and as a cost of gates.

The cost is a sum over pieces, as in ProxylessNAS (Cai, Zhu & Han 2019, section 3.3) and FBNet (Wu et al. 2019, section
3.3). A table is a small CSV file: comments that begin with "#" and say what was measured, a header, and a row for each
piece. The row "rest" is what whole networks take beyond their pieces; it may be negative where a network overlaps them.

A sum cannot know what a compiler leaves out: in NAS-Bench-201 an edge between two nodes of which one is cut off by
`none` takes no time in a network, and is counted all the same. Chains have no such edges.

    # jaxnas latency table, version 1
    # device: cpu
    # family: proxylessnas
    # units: ms
    # batch_size: 1
    # jax: 0.10.0
    component,milliseconds,spread
    mbconv_k3_e6 24x56x56 c40 s2,0.4131,0.0102
    rest,1.205,0.03
"""

import csv
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxnas.core.errors import UserError
from jaxnas.core.keys import named
from jaxnas.core.types import Architecture, Array, Key, PyTree
from jaxnas.costs.terms import ExpectedCost, components, expected_cost, table_cost, tabulate
from jaxnas.layers import backend
from jaxnas.networks.family import Family, Images
from jaxnas.spaces.space import encode, random

VERSION = "jaxnas latency table, version 1"
HEADER = ("component", "milliseconds", "spread")
REST = "rest"
SECONDS = 0.01  # that a timed call takes at least, so that dispatching it is not what is measured
UNROLLED = 16  # iterations for which an accelerator's loop does not ask the host whether to go on
LARGEST = 2**20  # iterations of a call


class Timing(NamedTuple):
    """The median of some repetitions in milliseconds, and their interquartile range, None where it is not known."""

    milliseconds: float
    spread: float | None = None


class LatencyTable(NamedTuple):
    """Timings by the name of the component, and "rest" where it is known.

    about: what else the comments of the file say, such as {"device": "cpu", "family": "darts", "batch_size": "1"}.
    """

    rows: Mapping[str, Timing]
    about: Mapping[str, str]


def write_latency_table(path: str | Path, table: LatencyTable) -> None:
    """Writes a table; five digits are kept. Raises UserError where the file cannot be written."""
    try:
        with Path(path).open("w", newline="", encoding="utf-8") as file:
            about = {"units": "ms", **table.about}
            file.writelines(f"# {line}\n" for line in (VERSION, *(f"{name}: {text}" for name, text in about.items())))
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(HEADER)
            for name, timing in table.rows.items():
                spread = "" if timing.spread is None else f"{timing.spread:.5g}"
                writer.writerow((name, f"{timing.milliseconds:.5g}", spread))
    except OSError as error:
        raise UserError(f"the latency table {path} cannot be written: {error.strerror or error}.") from error


def read_latency_table(path: str | Path) -> LatencyTable:
    """Reads a table of version 1, in milliseconds, measured here or elsewhere; the spread may be missing.

    Raises UserError, naming the line, for whatever is not as it has to be.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise UserError(f"the latency table {str(path)!r} cannot be read: {reason}.") from error
    about = _about(path, {n: line[1:].strip() for n, line in enumerate(lines, start=1) if line.startswith("#")})
    numbered = [(n, line) for n, line in enumerate(lines, start=1) if line.strip() and not line.startswith("#")]
    if not numbered:
        raise UserError(f"the latency table {path} is empty: it has no header {','.join(HEADER)}.")
    header = tuple(name.strip() for name in numbered[0][1].split(","))
    if header not in (HEADER, HEADER[:2]):
        raise _wrong(path, numbered[0][0], f"is {numbered[0][1]!r}, but has to be the header {','.join(HEADER)}")
    rows: dict[str, Timing] = {}
    for number, line in numbered[1:]:
        fields = next(csv.reader([line]))
        if len(fields) not in (2, 3) or not fields[0].strip():
            raise _wrong(path, number, f"is {line!r}, but has to be a component, its milliseconds and their spread")
        name = fields[0].strip()
        if name in rows:
            raise _wrong(path, number, f"names the component {name!r} a second time")
        milliseconds = _number(path, number, fields[1], signed=name == REST)
        rows[name] = Timing(milliseconds, _number(path, number, fields[2]) if "".join(fields[2:]).strip() else None)
    if not set(rows) - {REST}:
        raise UserError(f"the latency table {path} is empty: it has no row of a component.")
    return LatencyTable(rows, about)


def _about(path: str | Path, comments: Mapping[int, str]) -> dict[str, str]:
    """What the comments say, {name: text}, by the lines they are on; UserError unless version and units are known."""
    about: dict[str, str] = {}
    version = False
    for number, line in comments.items():
        name, colon, text = (piece.strip() for piece in line.partition(":"))
        if line.startswith(VERSION.partition(", ")[0]):
            if line != VERSION:
                raise _wrong(path, number, f"says {line!r}, but this program reads {VERSION!r}")
            version = True
        elif colon:
            about[name] = text
        if name == "units" and text != "ms":
            raise _wrong(path, number, f"has the units {text!r}, but this program reads 'ms'")
    if not version:
        raise UserError(f"the latency table {path} does not say its version; line 1 has to be '# {VERSION}'.")
    if "units" not in about:
        raise UserError(f"the latency table {path} does not say its units; it needs the line '# units: ms'.")
    return about


def _number(path: str | Path, line: int, text: str, *, signed: bool = False) -> float:
    try:
        value = float(text)
    except ValueError as error:
        raise _wrong(path, line, f"has {text.strip()!r}, which is not a number") from error
    if not math.isfinite(value):
        raise _wrong(path, line, f"has {text.strip()!r}, which is not a finite number")
    if value < 0 and not signed:
        raise _wrong(path, line, f"has {text.strip()}, but milliseconds are not negative")
    return value


def _wrong(path: str | Path, line: int, what: str) -> UserError:
    return UserError(f"line {line} of the latency table {path} {what}.")


def latency_cost(family: Family, images: Images, table: LatencyTable) -> ExpectedCost:
    """Milliseconds of the family's stand-alone networks for these images: the pieces' sum and the row "rest", if any.

    Raises UserError naming the first component of the family that the table lacks.
    """
    terms = family.terms()
    lacking = [name for name in components(terms) if name not in table.rows]
    if lacking:
        more = f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""
        size = "x".join(map(str, images.shape))
        raise UserError(
            f"the latency table, measured of {table.about.get('family', 'an unknown family')}, lacks the component "
            f"{lacking[0]!r}{more} that {family.space.name} has for images of {size}; measure this family."
        )
    values = tabulate(terms, lambda component: table.rows[component.name].milliseconds)
    rest = table.rows[REST].milliseconds if REST in table.rows else 0.0
    return expected_cost(family.space, terms, values, rest)


class Program(NamedTuple):
    """A module applied in a compiled loop: call(iterations) runs it that often and waits for the result."""

    call: Callable[[int], None]
    inner: int  # times that the module is applied in an iteration


class Prediction(NamedTuple):
    """Milliseconds of whole networks, predicted and measured [networks], and how the two agree.

    error: mean of |predicted - measured| / measured; bias: the same with its sign. spearman, kendall: rank
    correlations, NaN where all networks are predicted, or measured, to take the same time.
    """

    predicted: np.ndarray
    measured: np.ndarray
    error: float
    bias: float
    spearman: float
    kendall: float


def compile_program(module: nn.Module, shape: tuple[int, int, int], batch_size: int) -> Program:
    """Compiles module(images [batch_size, *shape], train=False) in a loop of any number of iterations, and runs it.

    An iteration writes one number of the last output into the images, which makes it wait for that output, and keeps
    the output, which makes it compute all of it. Weights are random, of the scale of 1 / √fan-in.
    """
    images = jnp.asarray(np.random.default_rng(0).standard_normal((batch_size, *shape), np.float32))
    shapes = jax.eval_shape(lambda key: module.init(key, images, train=False), jax.random.key(0))
    variables = jax.tree.map(_random, shapes)
    inner = 1 if jax.default_backend() == "cpu" else UNROLLED

    def apply(variables: PyTree, images: Array) -> Array:
        return jax.tree.leaves(module.apply(variables, images, train=False))[0]

    def step(carry: tuple[Array, Array], variables: PyTree) -> tuple[Array, Array]:
        images, output = carry
        images = images.at[0, 0, 0, 0].set(jnp.tanh(output.ravel()[0]))  # bounded, however often it goes round
        return images, apply(variables, images)

    def run(count: Array, variables: PyTree, images: Array) -> tuple[Array, Array]:
        output = jnp.zeros(jax.eval_shape(apply, variables, images).shape)

        def several(_: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
            return jax.lax.fori_loop(0, inner, lambda _, carry: step(carry, variables), carry)

        return jax.lax.fori_loop(
            0, count, several if inner > 1 else lambda _, carry: step(carry, variables), (images, output)
        )

    arguments = jnp.asarray(1, jnp.int32), variables, images
    compiled = jax.jit(run).lower(*arguments).compile(backend.compiler_options())

    def call(iterations: int) -> None:
        jax.block_until_ready(compiled(jnp.asarray(iterations, jnp.int32), variables, images))

    call(1)
    return Program(call, inner)


def _random(leaf: jax.ShapeDtypeStruct) -> Array:
    """Normal values of variance 1 / fan-in for kernels, ones for vectors (scales, shifts, means, variances)."""
    if len(leaf.shape) < 2:
        return jnp.ones(leaf.shape, leaf.dtype)
    values = np.random.default_rng(0).standard_normal(leaf.shape, np.float32)
    return jnp.asarray(values / np.sqrt(np.prod(leaf.shape[:-1])), leaf.dtype)


def time_programs(programs: Mapping[str, Program], repeats: int) -> dict[str, list[float]]:
    """Milliseconds of one application of every program's module, `repeats` of each.

    A repetition times every program once before the next begins, so that a machine that gets slower, or busy, slows all
    of them alike. A call iterates as often as takes 10 ms, by a first estimate. Raises UserError below 1 repetition.
    """
    if repeats < 1:
        raise UserError(f"a measurement needs at least 1 of repeats, not {repeats}.")
    counts = {name: _iterations(program) for name, program in programs.items()}
    found: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(repeats):
        for name, program in programs.items():
            applications = counts[name] * program.inner
            found[name].append(1e3 * _seconds(program, counts[name]) / applications)
    return found


def _seconds(program: Program, count: int) -> float:
    start = time.perf_counter()
    program.call(count)
    return time.perf_counter() - start


def _iterations(program: Program) -> int:
    """How many iterations take about `SECONDS`, found by doubling; this warms up as well."""
    count = 1
    while _seconds(program, count) < SECONDS and count < LARGEST:
        count *= 2
    return count


def summary(milliseconds: Sequence[float]) -> Timing:
    """Median and interquartile range of some repetitions."""
    low, middle, high = np.percentile(milliseconds, (25, 50, 75))
    return Timing(float(middle), float(high - low))


def measure_latency(
    family: Family, images: Images, key: Key, *, batch_size: int = 1, repeats: int = 10, networks: int = 4
) -> LatencyTable:
    """Times every component of a family, and some random whole networks for the row "rest", on the present device.

    rest: the median over the networks of what they take beyond the sum of their components, in the same repetitions.
    A component is compiled in about a second, so that a space of a hundred takes minutes.
    Raises UserError for a batch without images, and fewer than 1 of repeats or networks.
    """
    for name, value in {"batch_size": batch_size, "repeats": repeats, "networks": networks}.items():
        if value < 1:
            raise UserError(f"a latency table needs at least 1 of {name}, not {value}.")
    terms = family.terms()
    pieces = components(terms)
    programs = {name: compile_program(piece.module, piece.input_shape, batch_size) for name, piece in pieces.items()}
    drawn = [random(family.space, named(key, f"network {number}")) for number in range(networks)]
    wholes = {number: _whole(family, images, architecture, batch_size) for number, architecture in enumerate(drawn)}
    times = time_programs({**programs, **{f"network {number}": whole for number, whole in wholes.items()}}, repeats)
    rows = {name: summary(times[name]) for name in programs}
    values = tabulate(terms, lambda component: rows[component.name].milliseconds)
    rest = [
        summary(times[f"network {number}"]).milliseconds - table_cost(terms, values, architecture)
        for number, architecture in enumerate(drawn)
    ]
    return LatencyTable({**rows, REST: summary(rest)}, _description(family, batch_size))


def _whole(family: Family, images: Images, architecture: Architecture, batch_size: int) -> Program:
    return compile_program(family.network(architecture, None), images.shape, batch_size)


def _description(family: Family, batch_size: int) -> dict[str, str]:
    device = jax.devices()[0]
    name = device.platform if device.device_kind == device.platform else f"{device.platform}, {device.device_kind}"
    return {
        "device": name,
        "family": family.space.name,
        "units": "ms",
        "batch_size": str(batch_size),
        "jax": jax.__version__,
    }


def check_prediction(
    family: Family, images: Images, cost: ExpectedCost, count: int, key: Key, *, batch_size: int = 1, repeats: int = 10
) -> Prediction:
    """Times `count` random whole networks and compares them with what `cost`, in milliseconds, predicts.

    The table of `cost` has to be of this batch size. Raises UserError for fewer than 2 networks, which have no order.
    """
    if count < 2:
        raise UserError(f"a prediction is checked with at least 2 networks, not {count}.")
    drawn = [random(family.space, named(key, f"check {number}")) for number in range(count)]
    programs = {
        str(number): _whole(family, images, architecture, batch_size) for number, architecture in enumerate(drawn)
    }
    times = time_programs(programs, repeats)
    measured = np.asarray([summary(times[name]).milliseconds for name in programs])
    predicted = np.asarray([float(cost(encode(family.space, architecture))) for architecture in drawn])
    return compare(predicted, measured)


def compare(predicted: np.ndarray, measured: np.ndarray) -> Prediction:
    """The agreement of predicted and measured milliseconds [networks]; see `Prediction`."""
    errors = (predicted - measured) / measured
    ordered, ranked = _order(predicted), _order(measured)
    return Prediction(
        predicted,
        measured,
        error=float(np.mean(np.abs(errors))),
        bias=float(np.mean(errors)),
        spearman=_correlation(ordered.sum(axis=1), ranked.sum(axis=1)),
        kendall=_correlation(ordered, ranked),
    )


def _order(values: np.ndarray) -> np.ndarray:
    """1 where a value is larger than another, -1 where smaller, 0 where equal; sums of rows are 2 · rank - constant."""
    return np.sign(values[:, None] - values[None, :])


def _correlation(first: np.ndarray, second: np.ndarray) -> float:
    """The correlation of two arrays of mean 0, NaN where one is 0: of signs Kendall's tau-b, of ranks Spearman's."""
    scale = float(np.sqrt(np.sum(first**2) * np.sum(second**2)))
    return float(np.sum(first * second)) / scale if scale else math.nan
