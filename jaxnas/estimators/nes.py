"""Natural evolution strategies: the gradient of E[loss] under Gaussian noise on the parameters, from losses alone.

Sources: Wierstra et al. 2014 (search gradients for mean and deviation, natural gradient, ranks), Salimans et al. 2017
(antithetic pairs), Choromanski et al. 2018 (orthogonal directions). Losses are minimised, so that fitness is -loss.

Noise is drawn again from the key and the direction's number wherever it is needed: memory is that of a few copies of
the parameters, whatever the population, and the same key gives the same noise whatever is evaluated at once.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.flatten_util import ravel_pytree

from jaxnas.core.errors import UserError, choose
from jaxnas.core.types import Array, Estimate, GradEstimator, Key, Objective, PyTree


class NesGradient(NamedTuple):
    """Gradients of the expected loss for the means and for the deviations, shaped as the parameters; the mean loss."""

    loss: Array
    mean: PyTree
    sigma: PyTree


def nes(
    *,
    population: int,
    sigma: PyTree = 0.1,
    antithetic: bool = True,
    shaping: str = "raw",
    baseline: str = "mean",
    natural: bool = False,
    orthogonal: int = 0,
    control: PyTree | None = None,
    shift: PyTree | None = None,
    subspace: Sequence[PyTree] = (),
    chunk: int = 1,
) -> GradEstimator:
    """The estimator of the gradient for the means; arguments as for `nes_gradients`."""

    def estimate(key: Key, logits: PyTree, count: Array, objective: Objective) -> Estimate:
        del count
        found = nes_gradients(
            key,
            logits,
            lambda params: objective(params)[0],
            population=population,
            sigma=sigma,
            antithetic=antithetic,
            shaping=shaping,
            baseline=baseline,
            natural=natural,
            orthogonal=orthogonal,
            control=control,
            shift=shift,
            subspace=subspace,
            chunk=chunk,
        )
        return Estimate(found.loss, objective(logits)[1], found.mean, None)

    check_settings(population, sigma, antithetic, shaping, baseline, orthogonal, chunk)
    return estimate


def check_settings(
    population: int, sigma: PyTree, antithetic: bool, shaping: str, baseline: str, orthogonal: int, chunk: int
) -> None:
    """Raises UserError for settings that do not fit: see `nes_gradients`."""
    if population < 1 or (antithetic and population % 2):
        what = "even, because antithetic samples come in pairs" if antithetic and population > 0 else "at least 1"
        raise UserError(f"population must be {what}, not {population}.")
    for value in jax.tree.leaves(sigma):
        if not isinstance(value, Tracer) and not np.all(np.asarray(value) > 0):
            raise UserError(f"sigma must be positive, not {value}; 0.1 is a usual value.")
    choose("shaping", shaping, {"raw": None, "rank": None})
    choose("baseline", baseline, {"none": None, "mean": None, "leave_one_out": None})
    if baseline == "leave_one_out" and population < 2:
        raise UserError("the baseline leave_one_out needs a population of at least 2.")
    if orthogonal < 0 or chunk < 1:
        raise UserError(f"chunk must be at least 1 and orthogonal at least 0, not {chunk} and {orthogonal}.")


def nes_gradients(
    key: Key,
    params: PyTree,
    loss: Callable[[PyTree], Array],
    *,
    population: int,
    sigma: PyTree = 0.1,
    antithetic: bool = True,
    shaping: str = "raw",
    baseline: str = "mean",
    natural: bool = False,
    orthogonal: int = 0,
    control: PyTree | None = None,
    shift: PyTree | None = None,
    subspace: Sequence[PyTree] = (),
    chunk: int = 1,
) -> NesGradient:
    """Estimates ∇ E[loss(params + σ ε)] for params and σ from `population` losses, ε ~ N(0, 1) for every parameter.

    Args:
      key: a typed key.
      params: any pytree of floats, of one type.
      loss: params -> scalar.
      population: how many losses to evaluate; even with antithetic pairs.
      sigma: one deviation, or a pytree of them shaped as params.
      antithetic: samples come in pairs ±ε.
      shaping: "raw" losses, unbiased; or "rank", their centred ranks in -1/2 ... 1/2, which ignore the loss's scale.
      baseline: what is subtracted from the losses: "none", the population's "mean" (which shrinks the gradient by a
        factor 1 - 1/population), or the mean of the others, "leave_one_out". Pairs need none for the means.
      natural: the gradient times the inverse Fisher matrix, σ² for the means and σ²/2 for the deviations.
      orthogonal: this many directions at a time are made orthogonal, lengths kept; 0 leaves them independent. Holds
        that many copies of the parameters.
      control: a gradient shaped as params, of any other estimator, whose linear prediction is subtracted from every
        loss and put back exactly: a control variate.
      shift: added to the params before all else; the gradient is that at the shifted point.
      subspace: gradients whose span the noise is restricted to; the gradient for the means then lies in that span.
      chunk: directions to evaluate at once; changes speed and memory only.

    Raises:
      UserError: for a population that is not even with pairs or below 1, a sigma that is not positive, an unknown
        shaping or baseline.
    """
    check_settings(population, sigma, antithetic, shaping, baseline, orthogonal, chunk)
    center, restore = ravel_pytree(params)
    center = center if shift is None else center + ravel_pytree(shift)[0]
    deviation = _deviation(sigma, params, center)
    slope = None if control is None else ravel_pytree(control)[0]
    directions = population // 2 if antithetic else population
    noise, size, blocks = _noise(key, center, directions, orthogonal, chunk, subspace)
    signs = jnp.asarray([1.0, -1.0] if antithetic else [1.0], center.dtype)
    reference = loss(restore(center))

    def losses_of(epsilon: Array) -> Array:
        """[1 or 2]: the losses with +ε and, in pairs, with -ε, less the loss without noise."""
        one_by_one = [loss(restore(center + sign * deviation * epsilon)) - reference for sign in signs]
        values = jnp.stack(one_by_one)
        return values if slope is None else values - signs * jnp.vdot(slope, deviation * epsilon)

    def block_losses(epsilons: Array) -> Array:
        if size == 1:
            return losses_of(epsilons[0])[None]
        return jax.lax.map(losses_of, epsilons, batch_size=chunk if chunk > 1 else None)

    def block_weights(number: Array) -> Array:
        return (number * size + jnp.arange(size) < directions).astype(
            center.dtype
        )  # 0 for what fills up the last block

    utilities = None
    if shaping == "rank":
        losses = jax.lax.map(lambda number: block_losses(noise(number)), jnp.arange(blocks))
        utilities = _centred_ranks(losses.reshape(-1, len(signs))[:directions], blocks * size)

    def add(totals: "_Totals", number: Array) -> tuple["_Totals", None]:
        epsilons = noise(number)
        values = (
            block_losses(epsilons)
            if utilities is None
            else jax.lax.dynamic_slice_in_dim(utilities, number * size, size)
        )
        weights = block_weights(number)
        odd, even = weights * (values @ signs) / len(signs), weights * values.mean(axis=1)
        squares = epsilons**2 - 1
        return _Totals(
            totals.loss + even.sum(),
            totals.odd + odd @ epsilons,
            totals.noise + weights @ epsilons,
            totals.even + even @ squares,
            totals.squares + weights @ squares,
        ), None

    zeros = jnp.zeros_like(center)
    totals, _ = jax.lax.scan(add, _Totals(jnp.zeros((), center.dtype), *[zeros] * 4), jnp.arange(blocks))
    return _assemble(
        totals, directions, population, antithetic, baseline, natural, deviation, slope, reference, restore
    )


class _Totals(NamedTuple):
    """Sums over directions: of the losses, and of odd·ε, ε, even·(ε² - 1) and ε² - 1, each [parameters].

    From these follows the gradient with any constant baseline, so that it need not be known beforehand.
    """

    loss: Array
    odd: Array
    noise: Array
    even: Array
    squares: Array


def _assemble(
    totals, directions, population, antithetic, baseline, natural, deviation, slope, reference, restore
) -> NesGradient:
    mean_loss = totals.loss / directions
    level = -reference if baseline == "none" else mean_loss  # losses were taken less the reference
    factor = population / (population - 1) if baseline == "leave_one_out" else 1.0
    mean = totals.odd if antithetic else factor * (totals.odd - level * totals.noise)
    mean = mean / (directions * deviation)
    mean = mean if slope is None else mean + slope
    sigma = factor * (totals.even - level * totals.squares) / (directions * deviation)
    if natural:
        mean, sigma = mean * deviation**2, sigma * deviation**2 / 2
    return NesGradient(reference + mean_loss, restore(mean), restore(sigma))


def _deviation(sigma: PyTree, params: PyTree, center: Array) -> Array:
    if jax.tree.structure(sigma) == jax.tree.structure(params):
        return ravel_pytree(jax.tree.map(jnp.broadcast_to, sigma, jax.tree.map(jnp.shape, params)))[0]
    return jnp.asarray(sigma, center.dtype)


def _noise(
    key: Key, center: Array, directions: int, orthogonal: int, chunk: int, subspace: Sequence[PyTree]
) -> tuple[Callable[[Array], Array], int, int]:
    """The noise of a block of directions, number -> [size, parameters]; its size; how many blocks there are."""
    basis = None
    if subspace:
        spanning = jnp.stack([ravel_pytree(one)[0] for one in subspace], axis=1)
        basis = jnp.linalg.qr(spanning)[0]
    width = center.size if basis is None else basis.shape[1]
    size = min(orthogonal, width, directions) if orthogonal else min(chunk, directions)
    blocks = -(-directions // size)

    def block(number: Array) -> Array:
        numbers = number * size + jnp.arange(size)
        one = jax.vmap(lambda i: jax.random.normal(jax.random.fold_in(key, i), (width,), center.dtype))
        epsilons = one(numbers)
        if orthogonal:
            lengths = jnp.linalg.norm(epsilons, axis=1, keepdims=True)
            axes, triangle = jnp.linalg.qr(epsilons.T)
            # The signs make the axes uniform among all rotations (Mezzadri 2007).
            epsilons = lengths * (axes * jnp.where(jnp.diagonal(triangle) < 0, -1, 1)).T
        return epsilons if basis is None else epsilons @ basis.T

    return block, size, blocks


def _centred_ranks(losses: Array, rows: int) -> Array:
    """Ranks of all losses [directions, 1 or 2] from -1/2 (lowest) to 1/2, filled up with zeros to `rows` rows."""
    flat = losses.ravel()
    ranks = jnp.zeros_like(flat).at[jnp.argsort(flat)].set(jnp.arange(flat.size, dtype=flat.dtype))
    utilities = (ranks / max(flat.size - 1, 1) - 0.5).reshape(losses.shape)
    return jnp.pad(utilities, ((0, rows - len(losses)), (0, 0)))
