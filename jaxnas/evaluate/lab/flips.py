"""Where the signs of a network flip along a straight line through its weights, and what each flip does to its error.

On the line params - rate · direction every pre-activation is value - rate · slope, with a value and a slope that change
where an input of its layer flips. NumPy in float64: a flip is a quotient of pre-activations, which float32 resolves too
coarsely, and the work is gathers and sorts of lists whose lengths depend on the data.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

ROWS = 2048  # examples at most in one call, see _sorted; their pre-activations stay in the cache
RATE_BITS = 52


class Layer(NamedTuple):
    """A layer and its part of the direction, float64: kernels [in, out], biases [out] (zeros where there is none)."""

    kernel: np.ndarray
    bias: np.ndarray
    kernel_step: np.ndarray
    bias_step: np.ndarray


class Jumps(NamedTuple):
    """At each of `rates` [n] the summed squared error gains c₀ + c₁ · rate + c₂ · rate², `coefficients` [3, n]."""

    rates: np.ndarray
    coefficients: np.ndarray


class _Flips(NamedTuple):
    """Sign changes of a layer's units, [flips] each. codes: the unit, + width where minus becomes plus."""

    rows: np.ndarray
    rates: np.ndarray
    codes: np.ndarray


def error_jumps(
    layers: Sequence[Layer], x: np.ndarray, y: np.ndarray, low: float, high: float
) -> tuple[np.ndarray, Jumps]:
    """The summed squared error as a quadratic of the rate, at `low`, and its jumps from there up to `high`.

    Args:
      layers: the network; every layer but the last is followed by a sign.
      x: at most ROWS examples, [rows, in].
      y: targets, [rows, out].
      low, high: the interval of rates.

    Returns:
      Coefficients [3] and the jumps, in no order. Several flips at one rate are several jumps; one by one they may mean
      nothing, as where a flip makes others flip.
    """
    inputs, flips = x.astype(np.float64), _Flips(np.zeros(0, int), np.zeros(0), np.zeros(0, int))
    for layer in layers[:-1]:
        value, slope = _line(layer, inputs)
        negative = value < low * slope
        flips = _sorted(_next_flips(layer, value, slope, negative, flips, low, high), low, high)
        inputs = (1 - 2 * negative.view(np.int8)).astype(np.float64)
    value, slope = _line(layers[-1], inputs)
    error = value - y
    start = np.array([(error**2).sum(), -2 * (error * slope).sum(), (slope**2).sum()])
    return start, Jumps(flips.rates, _coefficients(layers[-1], error, slope, flips))


def _line(layer: Layer, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Value and slope of the pre-activations, each [rows, out]."""
    return inputs @ layer.kernel + layer.bias, inputs @ layer.kernel_step + layer.bias_step


def _effects(kernel: np.ndarray) -> np.ndarray:
    """What the flip of an input adds to the pre-activations, [codes, out]."""
    return np.concatenate([-2 * kernel, 2 * kernel])


def _next_flips(
    layer: Layer, value: np.ndarray, slope: np.ndarray, negative: np.ndarray, incoming: _Flips, low: float, high: float
) -> Iterator[_Flips]:
    """The flips of a layer: those between the flips of its inputs, and those that coincide with one.

    All examples take their first piece between `incoming` flips together, then those that have a second one, and so on;
    sorted by their number of pieces, these are always the first of the examples.

    Args:
      layer: the layer.
      value, slope, negative: its pre-activations at the rate `low`, and which are negative, [rows, width].
      incoming: the flips of its inputs, sorted by example, then by rate.
      low, high: the interval of rates.

    Yields:
      Flips in no order.
    """
    value_effects, slope_effects = _effects(layer.kernel), _effects(layer.kernel_step)
    count = np.bincount(incoming.rows, minlength=len(value))
    first, order = np.cumsum(count) - count, np.argsort(-count, kind="stable")
    rows, begin = np.arange(len(value)), np.full(len(value), low)
    for piece in range(count.max() + 1):
        going = np.count_nonzero(count > piece)  # examples with an incoming flip at the end of this piece
        keep = order[:going] if piece == 0 else slice(going)
        flip = first[order[:going]] + piece
        end = np.full(len(rows), high)
        end[keep] = incoming.rates[flip]
        after = value < end[:, None] * slope
        row, place, codes = _changes(negative, after)
        zero = value.ravel()[place] / slope.ravel()[place]
        yield _Flips(rows[row], np.clip(zero, begin[row], end[row]), codes)
        rows, begin, value, slope = rows[keep], end[keep], value[keep], slope[keep]
        value += value_effects[incoming.codes[flip]]
        slope += slope_effects[incoming.codes[flip]]
        negative = value < begin[:, None] * slope
        row, _, codes = _changes(after[keep], negative)
        yield _Flips(rows[row], begin[row], codes)


def _changes(before: np.ndarray, after: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Row, place in the flattened array, and code of every unit that is negative in only one of two [rows, width]."""
    width = before.shape[1]
    place = np.flatnonzero(before ^ after)
    row = place // width
    return row, place, place - row * width + width * before.ravel()[place]


def _sorted(parts: Iterable[_Flips], low: float, high: float) -> _Flips:
    """Joins flips and sorts them by example, then by rate; where two rates round to one, in any order.

    Sorting by one integer is twice as fast as by two keys. Eleven bits of it are the example.
    """
    rows, rates, codes = (np.concatenate(field) for field in zip(*parts, strict=True))
    fraction = ((rates - low) * ((2**RATE_BITS - 1) / (high - low))).astype(np.int64)
    order = np.argsort((rows << RATE_BITS) + fraction)
    return _Flips(rows[order], rates[order], codes[order])


def _coefficients(last: Layer, error: np.ndarray, slope: np.ndarray, flips: _Flips) -> np.ndarray:
    """The jumps [3, flips] of the squared errors (error - rate · slope)², [rows, out] at the start, summed over out."""
    count = np.bincount(flips.rows, minlength=len(error))
    first = np.cumsum(count) - count
    total = np.zeros((3, len(flips.rows)))
    for out in range(error.shape[1]):
        changes, before = [], []
        for effects, start in ((last.kernel, error), (last.kernel_step, slope)):
            change = _effects(effects[:, out])[flips.codes]
            sums = np.cumsum(change) - change  # of all examples so far
            before.append(sums + np.repeat(start[:, out] - np.append(sums, 0.0)[first], count))
            changes.append(change)
        (error_change, slope_change), (error_before, slope_before) = changes, before
        total[0] += error_change * (2 * error_before + error_change)
        total[1] -= 2 * (error_change * (slope_before + slope_change) + error_before * slope_change)
        total[2] += slope_change * (2 * slope_before + slope_change)
    return total
