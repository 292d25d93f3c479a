"""The loss after one step at every learning rate of a sweep, exactly.

Along params - rate · direction the pre-activations of the first layer are linear in the rate; between two flips of that
layer's signs so are those of the next, and so on: the squared error of an example is a quadratic in the rate that jumps
where a sign flips. `sweep` finds all flips, one layer after the other, and adds up what they change in the quadratic's
coefficients. The price is a few forward passes and a sort, however many rates there are. `naive_sweep` runs the network
once for each.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxnas.core.errors import UserError
from jaxnas.core.threads import cores, in_order, one_blas_thread
from jaxnas.core.types import Array, Params
from jaxnas.evaluate.lab.flips import ROWS, Jumps, Layer, error_jumps
from jaxnas.networks import sign_network

BLOCK = 4 * ROWS  # examples whose jumps are added up at once, by one thread
UNIFORM = 4096  # equal intervals that the search for the minimum lays over those between the rates
COLLECT = 2_000_000  # jumps that the search for the minimum holds in memory, about
ROUNDING = 1e-13  # of the largest rate: pieces between jumps that are shorter are artefacts of rounding


class Sweep(NamedTuple):
    """losses: float64 [rates]. best_rate, best_loss: the minimiser over all rates in [0, largest rate] and its loss."""

    losses: np.ndarray
    best_rate: float
    best_loss: float


class _Problem(NamedTuple):
    """What a sweep is about: layers, inputs [batch, in], targets [batch, out]."""

    layers: list[Layer]
    x: np.ndarray
    y: np.ndarray


class _Bins(NamedTuple):
    """The mean loss, cut at `edges`; bin i begins at 0 or edge i - 1 and ends at edge i.

    starts: coefficients [3, bins + 1] of the quadratic with which each bin begins, the last at the last edge.
    drops: at most so much do the jumps within each bin lower the loss, [bins]. counts: the number of jumps, [bins].
    jumps: all of them, block by block, unless they are more than COLLECT.
    """

    edges: np.ndarray
    starts: np.ndarray
    drops: np.ndarray
    counts: np.ndarray
    jumps: list[Jumps] | None


@partial(jax.jit, static_argnames="chunk")
def naive_sweep(params: Params, direction: Params, x: Array, y: Array, rates: Array, chunk: int = 1) -> Array:
    """The loss after a step at each rate, by running the network at each: the reference for `sweep`.

    Args:
      params, x, y: the network and its data, as in jaxnas.networks.sign_network.
      direction: shaped as params; a step goes to params - rate · direction.
      rates: learning rates, [rates].
      chunk: rates that are computed side by side.

    Returns:
      Losses, [rates], in the precision of the arguments.
    """

    def loss(rate: Array) -> Array:
        moved = jax.tree.map(lambda weight, step: weight - rate.astype(weight.dtype) * step, params, direction)
        return sign_network.loss(moved, x, y)

    return jax.lax.map(loss, rates, batch_size=chunk)


def sweep(params: Params, direction: Params, x: Array, y: Array, rates: Any) -> Sweep:
    """The loss after a step at each rate, and the best of all rates in [0, largest rate]; exact up to rounding.

    The losses are those of the network in float64 at the given values, whatever precision these come in. At a rate
    where a pre-activation is exactly zero, the loss may be that of either side.

    The best rate is the global minimiser of a piecewise quadratic function that jumps at each flip of each example.
    Between neighbouring rates the loss is at least the quadratic at the lower one less what the jumps in between can
    take off. Only where this undercuts the best loss at a rate are the jumps collected and sorted and every piece is
    minimised in closed form. This costs about a sweep over these intervals alone, and at most as many such sweeps as
    their jumps fill COLLECT. best_loss is the infimum to within 1e-12 · (1 + loss); where that is at a jump, best_rate
    lies beside it, within 1e-12 of the largest rate.

    Threads share the batch where there are several cores; the result does not depend on their number.

    Args:
      params, x, y: the network and its data, as in jaxnas.networks.sign_network.
      direction: shaped as params, for instance a gradient; a step goes to params - rate · direction.
      rates: learning rates, [rates], positive and increasing, in any spacing.

    Returns:
      The losses and the minimiser; see Sweep.

    Raises:
      UserError: for rates that are not positive and increasing, a direction of another shape or with numbers that are
        not finite, and for whatever sign_network.check finds.
    """
    rates = _checked_rates(rates)
    params, x, y = sign_network.checked(params, x, y)
    direction = tuple(direction) if isinstance(direction, list) else direction
    problem = _Problem(_layers(params, direction), np.asarray(x), np.asarray(y, np.float64).reshape(len(x), -1))
    edges = np.union1d(rates, np.linspace(0, rates[-1], UNIFORM + 1)[1:-1])
    bins = _bins(problem, edges)
    losses = _value(bins.starts[:, 1:], edges)
    return Sweep(losses[np.searchsorted(edges, rates)], *_minimum(problem, bins))


def _checked_rates(rates: Any) -> np.ndarray:
    try:
        values = np.asarray(rates, np.float64)
    except (TypeError, ValueError):
        raise UserError("rates must be a list of learning rates, all of them numbers.") from None
    if values.ndim != 1 or not values.size:
        raise UserError(f"rates must be a list of at least one learning rate, but their shape is {values.shape}.")
    if not np.isfinite(values).all() or values[0] <= 0 or (np.diff(values) <= 0).any():
        raise UserError("rates must be finite, positive and increasing, each larger than the one before it.")
    return values


def _layers(params: Params, direction: Params) -> list[Layer]:
    shapes, steps = (jax.tree.map(np.shape, tree) for tree in (params, direction))
    if shapes != steps:
        raise UserError(f"direction must be shaped as params, which is {shapes}, but it is {steps}.")
    if not all(np.isfinite(np.asarray(leaf)).all() for leaf in jax.tree.leaves(direction)):
        raise UserError("direction holds numbers that are not finite.")

    def parts(layer: Any) -> tuple[np.ndarray, np.ndarray]:
        kernel = np.asarray(layer["kernel"], np.float64)
        return kernel, np.asarray(layer.get("bias", np.zeros(kernel.shape[1])), np.float64)

    return [Layer(*parts(layer), *parts(step)) for layer, step in zip(params, direction, strict=True)]


def _blocks(problem: _Problem, low: float, high: float, use: Callable[[np.ndarray, Jumps], Any]) -> Iterator[Any]:
    """use(quadratic at `low`, jumps up to `high`) of every block of examples, in their order.

    NumPy lets other threads run during products, sorts and loops over large arrays.
    """

    def block(begin: int) -> Any:
        tiles = [slice(first, first + ROWS) for first in range(begin, min(begin + BLOCK, len(problem.x)), ROWS)]
        results = [error_jumps(problem.layers, problem.x[tile], problem.y[tile], low, high) for tile in tiles]
        starts, jumps = zip(*results, strict=True)
        rates, coefficients = zip(*jumps, strict=True)
        return use(np.sum(starts, axis=0), Jumps(np.concatenate(rates), np.concatenate(coefficients, axis=1)))

    # BLAS with threads of its own would make these wait for each other: slower than one core.
    with one_blas_thread:
        yield from in_order(block, range(0, len(problem.x), BLOCK), cores())


def _bins(problem: _Problem, edges: np.ndarray) -> _Bins:
    place = _placement(edges)
    widths = np.diff(edges, prepend=0)

    def add(start: np.ndarray, jumps: Jumps) -> tuple[np.ndarray, list[np.ndarray], Jumps]:
        rates, (constant, linear, square) = jumps
        bins = place(rates)
        tilt, width = linear + 2 * rates * square, widths[bins]
        lowest = constant + (linear + rates * square) * rates - (np.abs(tilt) + np.abs(square) * width) * width
        weights = (constant, linear, square, np.minimum(lowest, 0), None)
        return start, [np.bincount(bins, weight, len(edges)) for weight in weights], jumps

    total, held, count = np.zeros((5, len(edges) + 1)), [], 0
    for start, sums, jumps in _blocks(problem, 0.0, edges[-1], add):
        total[:3, 0] += start
        for row, values in zip(total, sums, strict=True):
            row[1:] += values
        count += len(jumps.rates)
        held.append(jumps)
        if count > COLLECT:
            held.clear()
    starts = np.cumsum(total[:3], axis=1) / problem.y.size
    return _Bins(edges, starts, total[3, 1:] / problem.y.size, total[4, 1:], held if count <= COLLECT else None)


def _placement(edges: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """np.searchsorted(edges, ·) by a table over equal cells: ten times as fast as a search among 50,000 edges."""
    cells = 2 ** min((4 * edges.size).bit_length(), 18)
    scale = cells / edges[-1]
    # The margin is for values that round up into the next cell: a place too low is mended below, one too high is not.
    table = np.searchsorted(edges, (np.arange(cells + 1) - 0.01) / scale).astype(np.int32)

    def place(values: np.ndarray) -> np.ndarray:
        places = table[(values * scale).astype(np.int32)].astype(int)
        for _ in range(2):
            places += edges[places] < values
        late = np.flatnonzero(edges[places] < values)
        places[late] = np.searchsorted(edges, values[late])
        return places

    return place


def _value(coefficients: np.ndarray, rates: np.ndarray) -> np.ndarray:
    """Quadratics [3, n] at rates [n]."""
    return coefficients[0] + (coefficients[1] + coefficients[2] * rates) * rates


def _lowest(coefficients: np.ndarray, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The minimisers of quadratics [3, n] between `low` and `high`, [n], and the minima."""
    with np.errstate(divide="ignore", invalid="ignore"):
        vertex = -coefficients[1] / (2 * coefficients[2])
    rates = np.stack([low, high, np.clip(np.nan_to_num(vertex), low, high)])
    values = _value(coefficients, rates)
    best = np.argmin(values, axis=0)[None]
    return np.take_along_axis(rates, best, 0)[0], np.take_along_axis(values, best, 0)[0]


def _minimum(problem: _Problem, bins: _Bins) -> tuple[float, float]:
    """The best rate and its loss, see `sweep`."""
    points = np.append(0.0, bins.edges)
    losses = _value(bins.starts, points)
    best = int(np.argmin(losses))
    best_rate, best_loss = points[best], losses[best]
    bounds = _lowest(bins.starts[:, :-1], points[:-1], bins.edges)[1] + bins.drops
    promising = np.flatnonzero(bounds < best_loss - 1e-12 * (1 + best_loss))
    collected = np.cumsum(bins.counts)
    runs = (
        np.split(promising, np.flatnonzero(np.diff(collected[promising] // max(COLLECT, 1))) + 1)
        if promising.size
        else []
    )
    for run in sorted(runs, key=lambda run: bounds[run].min()):
        if bounds[run].min() < best_loss:
            rate, loss = _minimum_within(problem, bins, run[0], run[-1])
            best_rate, best_loss = (rate, loss) if loss < best_loss else (best_rate, best_loss)
    return float(best_rate), float(best_loss)


def _minimum_within(problem: _Problem, bins: _Bins, first: int, last: int) -> tuple[float, float]:
    """The best rate in some successive bins and its loss: all jumps, sorted, and every piece of the loss minimised."""
    low, high = bins.edges[first - 1] if first else 0.0, bins.edges[last]
    if bins.jumps is None:
        starts, jumps = zip(*_blocks(problem, low, high, lambda *found: found), strict=True)
        start = np.sum(starts, axis=0) / problem.y.size
    else:
        inside = [(block.rates <= high) & ((block.rates > low) | (first == 0)) for block in bins.jumps]
        jumps = [Jumps(*(part[..., some] for part in block)) for block, some in zip(bins.jumps, inside, strict=True)]
        start = bins.starts[:, first]
    rates, coefficients = (np.concatenate(parts, axis=-1) for parts in zip(*jumps, strict=True))
    order = np.argsort(rates)
    pieces = np.cumsum(np.insert(coefficients[:, order] / problem.y.size, 0, start, axis=1), axis=1)
    ends = np.concatenate([[low], rates[order], [high]])
    shortest = ROUNDING * bins.edges[-1]
    long = np.flatnonzero(np.diff(ends) > shortest)
    if not long.size:
        return low, np.inf
    margin = np.minimum(np.diff(ends)[long] / 2, 10 * shortest)
    rates, losses = _lowest(pieces[:, long], ends[long] + margin, ends[long + 1] - margin)
    best = int(np.argmin(losses))
    return float(rates[best]), float(losses[best])
