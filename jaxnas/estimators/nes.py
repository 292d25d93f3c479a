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
from jax.flatten_util import ravel_pytree

from jaxnas.core.types import Array, Estimate, GradEstimator, Key, Objective, PyTree
from jaxnas.estimators.nes_noise import draw, span
from jaxnas.estimators.nes_settings import check_baseline, check_settings, check_trees, is_scalar


class NesGradient(NamedTuple):
    """The mean loss under the noise, and its gradients for the means and the deviations, both shaped as the parameters.

    Where all parameters share one deviation, its gradient is the sum over `sigma`, its natural gradient their mean.
    Within a subspace `sigma` is None: there single parameters have no deviations of their own.
    """

    loss: Array
    mean: PyTree
    sigma: PyTree | None


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
    """The estimator of the gradient for the means; arguments and errors as for `nes_gradients`.

    Its loss is the mean over the population, its metrics are those of the parameters without noise.
    """
    check_settings(population, sigma, antithetic, shaping, baseline, orthogonal, chunk)

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

    return estimate


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
      sigma: one deviation, or a pytree of them shaped as params (or with one number a leaf).
      antithetic: samples come in pairs ±ε.
      shaping: "raw" losses, unbiased; or "rank", their centred ranks in -1/2 ... 1/2 (equal losses have equal ranks),
        which ignore the loss's scale.
      baseline: what is subtracted from the losses: "none"; the population's "mean", which shrinks the gradients by a
        factor 1 - 1/population (with pairs, by 1 - 2/population for the deviations and not at all for the means); or
        "leave_one_out", the mean of those samples that are independent of the one at hand, which is unbiased.
      natural: the gradient times the inverse Fisher matrix, σ² for the means and σ²/2 for the deviations.
      orthogonal: this many directions at a time (at most as many as there are parameters) are made orthogonal, lengths
        kept; 0 leaves them independent. Holds that many copies of the parameters.
      control: a gradient shaped as params, of any other estimator, whose linear prediction is subtracted from every
        loss and put back exactly: a control variate, for raw losses.
      shift: added to the params before all else; the gradient is that at the shifted point.
      subspace: gradients whose span the noise is restricted to, for one sigma; the gradient for the means is then the
        projection on that span.
      chunk: directions to evaluate at once; changes speed and memory only.

    Raises:
      UserError: for a population that is not even with pairs or below 1, a sigma that is not positive and finite, an
        unknown shaping or baseline, a baseline or a control that cannot be had, or pytrees of another shape.
    """
    check_settings(population, sigma, antithetic, shaping, baseline, orthogonal, chunk)
    check_trees(params, sigma, shaping, control, shift, subspace)
    center, restore = ravel_pytree(params)
    center = center if shift is None else center + ravel_pytree(shift)[0]
    deviation = _deviation(sigma, params, center)
    slope = None if control is None else ravel_pytree(control)[0]
    basis = span(subspace) if subspace else None
    noise_like = center if basis is None else basis[0]
    signs = jnp.asarray([1, -1] if antithetic else [1], center.dtype)
    directions = population // len(signs)
    block = min(orthogonal, noise_like.size, directions) if orthogonal else chunk
    check_baseline(baseline, population, len(signs) * (block if orthogonal else 1))
    # Losses are taken less this one where a baseline is subtracted anyway: their sums lose fewer digits.
    reference = loss(restore(center)) if baseline != "none" and shaping == "raw" else jnp.zeros((), center.dtype)

    def sampled(noise: Array) -> Array:
        """[1 or 2]: the losses with +ε and, in pairs, with -ε, less the reference and what the control predicts."""
        step = deviation * _lift(basis, noise)
        losses = jnp.stack([loss(restore(center + sign * step)) for sign in signs]) - reference
        return losses if slope is None else losses - signs * jnp.vdot(slope, step)

    def noise_of(numbers: Array) -> Array:
        return draw(key, numbers, noise_like, orthogonal > 0)

    values = None
    if shaping == "rank":
        _, values = _scan_blocks(lambda _, n: (None, _evaluate(sampled, noise_of(n), chunk)), None, directions, block)
    utilities = None if values is None else _centred_ranks(values)

    def add(sums: "_Sums", numbers: Array) -> tuple["_Sums", Array]:
        noise = noise_of(numbers)
        fitness = _evaluate(sampled, noise, chunk) if utilities is None else utilities[numbers]
        return _add_block(sums, noise, fitness, signs, baseline, population, orthogonal > 0), fitness

    sums, used = _scan_blocks(add, _Sums(*[jnp.zeros_like(noise_like)] * 4), directions, block)
    mean = (sums.odd - used.sum() * sums.odd_level) / population
    mean = _lift(basis, mean) / deviation
    if slope is not None:
        mean = mean + (slope if basis is None else _lift(basis, slope @ basis))
    spread = (sums.even - used.sum() * sums.even_level) / (population * deviation) if basis is None else None
    if natural:
        mean, spread = mean * deviation**2, None if spread is None else spread * deviation**2 / 2
    average = reference + (used if values is None else values).mean()
    return NesGradient(average, restore(mean), None if spread is None else restore(spread))


class _Sums(NamedTuple):
    """Sums over samples, each as long as the noise: of fitness · ±ε and fitness · (ε² - 1).

    The levels are the same sums with the weight that the sample's baseline gives to the sum of all losses in the place
    of the fitness, so that the baseline need not be known beforehand.
    """

    odd: Array
    even: Array
    odd_level: Array
    even_level: Array


def _add_block(
    sums: _Sums, noise: Array, fitness: Array, signs: Array, baseline: str, population: int, dependent: bool
) -> _Sums:
    """Adds a block of directions [size, parameters] and their losses [size, signs]; dependent: on one another."""
    totals = fitness.sum() if dependent else fitness.sum(axis=1, keepdims=True)
    others = population - len(signs) * (len(noise) if dependent else 1)
    # The baseline of a sample is share · (the sum of all losses - own · the sum of those that depend on it).
    share, own = {"none": (0.0, 0), "mean": (1 / population, 0), "leave_one_out": (1 / max(others, 1), 1)}[baseline]
    fitness = fitness + share * own * totals
    squares = noise**2 - 1
    return _Sums(
        sums.odd + (fitness @ signs) @ noise,
        sums.even + fitness.sum(axis=1) @ squares,
        sums.odd_level + share * signs.sum() * noise.sum(axis=0),
        sums.even_level + share * len(signs) * squares.sum(axis=0),
    )


def _scan_blocks(function: Callable, initial: PyTree, directions: int, block: int) -> tuple[PyTree, Array]:
    """Like lax.scan over the numbers of the directions, `block` at a time; the last block may be shorter.

    function: (carry, numbers [size]) -> (carry, outputs [size, ...]); returns the last carry and all outputs.
    """
    whole = directions // block * block
    carry, outputs = jax.lax.scan(function, initial, jnp.arange(whole).reshape(whole // block, block))
    outputs = outputs.reshape(whole, *outputs.shape[2:])
    if whole < directions:
        carry, last = function(carry, jnp.arange(whole, directions))
        outputs = jnp.concatenate([outputs, last])
    return carry, outputs


def _evaluate(sampled: Callable[[Array], Array], noise: Array, chunk: int) -> Array:
    """`sampled` of every row of the noise, `chunk` rows at once."""
    if len(noise) == 1:
        return sampled(noise[0])[None]  # not vmapped: products stay plain matrix products
    return jax.vmap(sampled)(noise) if len(noise) <= chunk else jax.lax.map(sampled, noise, batch_size=chunk)


def _lift(basis: Array | None, coordinates: Array) -> Array:
    return coordinates if basis is None else basis @ coordinates


def _deviation(sigma: PyTree, params: PyTree, center: Array) -> Array:
    if is_scalar(sigma):
        return jnp.asarray(sigma, center.dtype)
    return ravel_pytree(jax.tree.map(lambda one, leaf: jnp.broadcast_to(one, leaf.shape), sigma, params))[0]


def _centred_ranks(losses: Array) -> Array:
    """The ranks of the losses, of the same shape, from -1/2 (lowest) to 1/2; equal losses share the mean of theirs."""
    ordered = jnp.sort(losses.ravel())
    first, last = (jnp.searchsorted(ordered, losses, side=side) for side in ("left", "right"))
    return ((first + last - 1) / (2 * max(losses.size - 1, 1)) - 0.5).astype(losses.dtype)
