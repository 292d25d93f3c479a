"""Measuring latency: the pieces of a family's networks, and whole networks, timed in compiled programs."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from scipy import stats

from jaxnas.core.errors import UserError
from jaxnas.core.keys import named
from jaxnas.core.types import Architecture, Array, Key, PyTree
from jaxnas.costs.latency import REST, LatencyTable, Timing
from jaxnas.costs.terms import ExpectedCost, components, table_cost, tabulate
from jaxnas.layers import backend
from jaxnas.networks.family import Family, Images
from jaxnas.spaces.space import encode, random

SECONDS = 0.01  # that a timed call takes at least, so that dispatching it is not what is measured
UNROLLED = 16  # iterations for which an accelerator's loop does not ask the host whether to go on
LARGEST = 2**20  # iterations of a call


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


def device_name() -> str:
    """How tables name the present device: its platform, and its kind where that says more."""
    device = jax.devices()[0]
    return device.platform if device.device_kind == device.platform else f"{device.platform}, {device.device_kind}"


def _description(family: Family, batch_size: int) -> dict[str, str]:
    return {
        "device": device_name(),
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
    ordered = len(set(predicted.tolist())) > 1 and len(set(measured.tolist())) > 1
    return Prediction(
        predicted,
        measured,
        error=float(np.mean(np.abs(errors))),
        bias=float(np.mean(errors)),
        spearman=_statistic(stats.spearmanr(predicted, measured)) if ordered else math.nan,
        kendall=_statistic(stats.kendalltau(predicted, measured)) if ordered else math.nan,
    )


def _statistic(result: Any) -> float:
    """What a test of SciPy found; its results are typed as plain tuples."""
    return float(result[0])
