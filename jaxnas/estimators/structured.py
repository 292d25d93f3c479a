"""Coordinate differences of a sign network at the cost of a few evaluations, instead of two per parameter.

Exactly what `coordinate_differences` measures on the network's loss, from three facts:

- The loss is quadratic in every parameter of the last layer, where a central difference is the derivative.
- A parameter of a hidden layer acts on one unit only, and on that only through its sign: its difference is a sum, over
  the examples whose sign differs between the two steps, of the *gain* of that unit: the loss with the sign at +1 minus
  the loss with it at -1. The gain does not depend on which parameter made the sign change.
- A pre-activation z goes to z ± ε·input. So which examples count is a comparison for each input and unit in the first
  layer, where inputs are real, and for each unit only in later layers, where inputs are ±1.

Values are laid out [width, examples] here: work for a single unit then runs along examples, contiguous in memory.
"""

import functools
import operator
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxnas.core.errors import UserError
from jaxnas.core.types import Array, Params
from jaxnas.estimators.coordinate import check_step
from jaxnas.estimators.tiles import sum_over_tiles, target_columns
from jaxnas.relax.binary import sign

Layer = Any  # {'kernel': [in, out]} with or without 'bias': [out]
TILE = 256  # examples at a time; the values of a layer of 64 then stay close to the first-level cache
RUNS = 16  # of a tile, summed elementwise in the first layer; XLA:CPU uses no vector instructions for 8
UNROLLED = 64  # the widest layer that is written out unit by unit; 128 would take seconds to compile


def structured_differences(params: Params, x: Array, y: Array, *, epsilon: Array | float, tile: int = TILE) -> Params:
    """The central differences of the loss for every parameter, shaped as params.

    Equal to `coordinate_differences` up to rounding, also for pre-activations that a step makes exactly zero, as long
    as the pre-activations themselves are exact; sign(0) = 1. CDG is of BinaryDuo (Kim et al. 2020, eq. 5).

    Args:
      params: the network, a tuple of {'kernel': [in, out], 'bias': [out] (optional)} with a sign after every layer but
        the last.
      x: inputs, [batch, in].
      y: targets, [batch] or [batch, out]; the loss is the mean over batch and outputs of (output - y)².
      epsilon: the step, in the unit of the parameters.
      tile: examples at a time, which need not divide the batch. Memory is that of one tile, and tile / 16 times that of
        the first layer.

    Raises:
      UserError: for an epsilon that is not positive and finite, a tile below 1, an empty batch, or targets of another
        shape.
    """
    check_step(epsilon)
    if tile < 1:
        raise UserError(f"tile must be at least 1, not {tile}.")
    targets = target_columns(params, x, y)

    def one_tile(index, weights, x, y):
        del index
        return _weighted_sum(params, x.T, y.T, weights / targets.shape[1], epsilon)

    return sum_over_tiles(one_tile, x.shape[0], tile, x, targets)


def _weighted_sum(params: Params, x: Array, y: Array, weights: Array, epsilon) -> Params:
    """The differences of Σ weights · (output - y)² over outputs and examples; x [in, examples], y [out, examples]."""
    inputs, preactivations = [x], []
    for layer in params:
        preactivations.append(_affine(layer, inputs[-1]))
        inputs.append(sign(preactivations[-1]))
    *hidden, output = preactivations
    residual = output - y
    gradients = [_split(params[-1], _with_one(params[-1], inputs[-2]) @ (2 * weights * residual).T)]
    for i in reversed(range(len(hidden))):
        if i == len(hidden) - 1:
            gains = _last_gains(params[-1], inputs[i + 1], residual)
        else:
            gains = _gains(params[i + 1 :], inputs[i + 1], hidden[i + 1], y, jnp.sum(residual**2, axis=0))
        gains = gains * (weights / (2 * epsilon))
        inputs_and_one = _with_one(params[i], inputs[i])
        if i == 0:
            table = _first_products(inputs_and_one, hidden[0], gains, epsilon)
        else:
            table = inputs_and_one @ (gains * _changes(hidden[i], epsilon)).T
        gradients.append(_split(params[i], table))
    return tuple(reversed(gradients))


def _affine(layer: Layer, inputs: Array) -> Array:
    """The pre-activations [out, examples] of a layer for inputs [in, examples]."""
    products = layer["kernel"].T @ inputs
    return products + layer["bias"][:, None] if "bias" in layer else products


def _with_one(layer: Layer, inputs: Array) -> Array:
    """Inputs [in, examples], with a last row of ones, which a bias multiplies, where the layer has one.

    One gradient for both, because XLA:CPU would compute all gains twice for two programs that need them.
    """
    return jnp.concatenate([inputs, jnp.ones_like(inputs[:1])]) if "bias" in layer else inputs


def _split(layer: Layer, table: Array) -> dict[str, Array]:
    """The gradient of a layer from that of its inputs and one, [in, out] or [in + 1, out]."""
    return {"kernel": table[:-1], "bias": table[-1]} if "bias" in layer else {"kernel": table}


def _changes(preactivations: Array, step: Array | float) -> Array:
    """sign(z + step) - sign(z - step), halved: 1, 0 or, for negative steps, -1; of the type of z.

    z ± step is not computed, because comparing is exact and adding rounds.
    """
    upper, lower = preactivations >= -step, preactivations >= step
    return upper.astype(preactivations.dtype) - lower.astype(preactivations.dtype)


def _first_products(x: Array, preactivations: Array, gains: Array, epsilon) -> Array:
    """The gradient [in, units] for inputs x [in, examples] that are any numbers: a comparison for each triple.

    The examples are cut into runs, which are added elementwise.
    """

    def runs(values):  # [rows, runs, examples of a run]; what fills up has gains of zero
        return jnp.pad(values, ((0, 0), (0, -values.shape[1] % RUNS))).reshape(len(values), RUNS, -1)

    steps, preactivations, gains = runs(epsilon * x), runs(preactivations), runs(gains)

    def term(i):  # gain · _changes, [units, in, examples of a run]
        step, z, gain = steps[None, :, i], preactivations[:, None, i], gains[:, None, i]
        return jnp.where(z >= -step, gain, 0) - jnp.where(z >= step, gain, 0)

    sums = _unrolled_sum(term, RUNS)
    return (sums @ jnp.ones(sums.shape[-1], sums.dtype)).T


def _last_gains(layer: Layer, codes: Array, residual: Array) -> Array:
    """The gains [units, examples] of the last hidden layer: (r₊)² - (r₋)² = 4 (r - h w) w, summed over outputs."""
    kernel = layer["kernel"]
    return 4 * (kernel @ residual - codes * jnp.sum(kernel**2, axis=1, keepdims=True))


def _gains(layers: Sequence[Layer], codes: Array, preactivations: Array, y: Array, loss: Array) -> Array:
    """The gains of a hidden layer with these codes, both [units, examples], by flipping one unit after another.

    layers: those behind it; preactivations: of layers[0], [width, examples]; loss: [examples], that of the codes.
    """
    if len(layers) == 2 and len(preactivations) <= UNROLLED and len(y) == 1:
        return (loss - (_flipped_outputs(layers[0], layers[1], codes, preactivations) - y) ** 2) * codes

    def gain(unit):
        code, weights = unit
        values = preactivations - 2 * weights[:, None] * code
        for layer in layers[1:]:
            values = _affine(layer, sign(values))
        return (loss - jnp.sum((values - y) ** 2, axis=0)) * code

    return jax.lax.map(gain, (codes, layers[0]["kernel"]))


def _flipped_outputs(hidden: Layer, output: Layer, codes: Array, preactivations: Array) -> Array:
    """A network's only output with one input flipped, for all inputs: [inputs, examples] as codes.

    hidden, output: the network; preactivations: of `hidden` for the codes, [width, examples].
    """
    changes, weights = 2 * codes, output["kernel"][:, 0]

    def term(i):  # z - change · w ≥ 0, but in one comparison
        return jnp.where(preactivations[i] >= changes * hidden["kernel"][:, i, None], weights[i], 0)

    # Σ ±w = 2 Σ [+] w - Σ w
    values = 2 * _unrolled_sum(term, len(preactivations)) - jnp.sum(weights)
    return values + output["bias"] if "bias" in output else values


def _unrolled_sum(term: Callable[[int], Array], count: int) -> Array:
    """term(0) + ... + term(count - 1) as one elementwise expression.

    XLA:CPU compiles it to a loop of vector instructions that holds the sum in a register; of a reduction or a matrix
    product it writes the terms to memory first, which takes twice as long.
    """
    return functools.reduce(operator.add, map(term, range(count)))
