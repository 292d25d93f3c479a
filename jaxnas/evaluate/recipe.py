"""Recipes for training stand-alone networks: rates over epochs, optimizers, what is averaged and in which precision."""

from collections.abc import Callable, Mapping, Set
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from flax.traverse_util import path_aware_map
from jax.typing import ArrayLike

from jaxnas.core.errors import UserError, choose
from jaxnas.core.types import Array, GradEstimator, Key, PyTree
from jaxnas.costs.counting import network_cost
from jaxnas.estimators.coordinate import coordinate_differences
from jaxnas.estimators.nes import nes
from jaxnas.evaluate.description import without_auxiliary
from jaxnas.networks.substituted import SubstitutedNetwork


class Recipe(NamedTuple):
    """How to train a stand-alone network.

    learning_rate: the highest. schedule: how it changes, see `SCHEDULES`; decay_epochs, decay_factor: of those that
    take them. warmup_epochs: over which the rate rises linearly from zero to what the schedule says.
    optimizer: "sgd" with `momentum`, which `nesterov` looks ahead along, or "adam", whose first moment decays by it.
    clip: the largest global norm of a gradient, 0 for any. weight_decay: is added to the gradient.
    drop_path: the rate reached at the end, linear in the epoch. auxiliary_weight: of the auxiliary head's loss, where
    the network has one. label_smoothing: the probability that labels give away, spread over all classes.
    average_decay: of the moving average of all variables by which the network is judged; 0: by the variables
    themselves. accumulate: parts that a batch is cut into, one after another, to need less memory; batch normalisation
    sees parts.
    recompute: whether blocks run again on the way back instead of keeping what they computed, for less memory.
    precision: of the products, "float32" or "bfloat16"; parameters, statistics and losses stay in float32.
    estimator: of the gradient for the parameters, "backpropagation", or for networks whose derivatives are surrogates
    one from losses alone: "nes" with a population and the deviation sigma, or "coordinate", differences of sigma.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    momentum: float
    weight_decay: float
    clip: float
    drop_path: float
    auxiliary_weight: float
    schedule: str = "cosine"
    decay_epochs: tuple[int, ...] = ()
    decay_factor: float = 1.0
    warmup_epochs: int = 0
    optimizer: str = "sgd"
    nesterov: bool = False
    label_smoothing: float = 0.0
    average_decay: float = 0.0
    accumulate: int = 1
    precision: str = "float32"
    recompute: bool = False
    estimator: str = "backpropagation"
    population: int = 100
    sigma: float = 0.01


class LighterDecay(NamedTuple):
    """The modules (paths of names) whose parameters decay by `factor` times the weight decay."""

    paths: Set[tuple[str, ...]]
    factor: float


PRECISIONS: Mapping[str, jnp.dtype] = {"float32": jnp.dtype("float32"), "bfloat16": jnp.dtype("bfloat16")}
OPTIMIZERS = ("sgd", "adam")
# From losses alone, of the estimator lab; back-propagation is the other one.
ESTIMATORS: Mapping[str, Callable[[Recipe], GradEstimator]] = {
    "nes": lambda recipe: nes(population=recipe.population, sigma=recipe.sigma),
    "coordinate": lambda recipe: coordinate_differences(recipe.sigma),
}
BACKPROPAGATION = "backpropagation"


def check_recipe(recipe: Recipe) -> None:
    """Raises UserError for names that a recipe cannot have, and parts that do not divide the batch."""
    choose("schedule", recipe.schedule, SCHEDULES)
    choose("precision", recipe.precision, PRECISIONS)
    choose("optimizer", recipe.optimizer, dict.fromkeys(OPTIMIZERS))
    choose("estimator", recipe.estimator, {BACKPROPAGATION: None, **ESTIMATORS})
    if recipe.estimator != BACKPROPAGATION:
        ESTIMATORS[recipe.estimator](recipe)  # for its checks
    if recipe.batch_size % recipe.accumulate:
        raise UserError(f"recipe.accumulate {recipe.accumulate} does not divide the batch size {recipe.batch_size}.")
    late = [epoch for epoch in recipe.decay_epochs if epoch >= recipe.epochs]
    if recipe.schedule == "steps" and late:
        raise UserError(
            f"recipe.decay_epochs has {late[0]}, but there are only {recipe.epochs} epochs; name earlier ones."
        )
    if recipe.nesterov and recipe.optimizer != "sgd":
        raise UserError(f"recipe.nesterov is of the optimizer 'sgd', not of {recipe.optimizer!r}; set it to False.")
    if recipe.epochs and not recipe.warmup_epochs < recipe.epochs:
        raise UserError(
            f"recipe.warmup_epochs {recipe.warmup_epochs} leaves nothing of {recipe.epochs} epochs; use fewer."
        )


def _cosine(recipe: Recipe, progress: Array, epoch: Array) -> Array:
    return 0.5 * (1 + jnp.cos(jnp.pi * jnp.minimum(progress, 1)))


def _linear(recipe: Recipe, progress: Array, epoch: Array) -> Array:
    return jnp.maximum(1 - progress, 0)


def _steps(recipe: Recipe, progress: Array, epoch: Array) -> Array:
    return recipe.decay_factor ** jnp.sum(epoch >= jnp.asarray(recipe.decay_epochs, jnp.int32))


def _exponential(recipe: Recipe, progress: Array, epoch: Array) -> Array:
    return recipe.decay_factor**epoch


# (recipe, share of the steps after the warm-up that are done, epoch) -> factor of the rate.
SCHEDULES: Mapping[str, Callable[[Recipe, Array, Array], Array]] = {
    "cosine": _cosine,  # to zero
    "linear": _linear,  # to zero
    "steps": _steps,  # times decay_factor at the beginning of each of decay_epochs
    "exponential": _exponential,  # times decay_factor after every epoch
}


def rate_of(recipe: Recipe, steps_per_epoch: int) -> optax.Schedule:
    """The learning rate at a step, counted from 0."""
    warmup, total = recipe.warmup_epochs * steps_per_epoch, recipe.epochs * steps_per_epoch
    shape = SCHEDULES[recipe.schedule]

    def rate(count: ArrayLike) -> Array:
        count = jnp.asarray(count)
        progress = (count - warmup) / max(1, total - warmup)
        factor = shape(recipe, jnp.maximum(progress, 0), count // steps_per_epoch)
        rising = jnp.minimum((count + 1) / warmup, 1) if warmup else 1.0
        return recipe.learning_rate * factor * rising

    return rate


def optimizer_of(
    recipe: Recipe, steps_per_epoch: int, lighter: LighterDecay | None = None
) -> optax.GradientTransformationExtraArgs:
    """The optimizer of a recipe; lighter: what decays less than the rest."""
    clipped = [optax.clip_by_global_norm(recipe.clip)] if recipe.clip else []
    moments = {
        "sgd": lambda: optax.trace(recipe.momentum, nesterov=recipe.nesterov),
        "adam": lambda: optax.scale_by_adam(b1=recipe.momentum),
    }[recipe.optimizer]()
    rate = optax.scale_by_learning_rate(rate_of(recipe, steps_per_epoch))
    decay = decayed(recipe.weight_decay, lighter)  # before the momentum, as PyTorch has it
    return optax.with_extra_args_support(optax.chain(*clipped, decay, moments, rate))


def decayed(weight_decay: float, lighter: LighterDecay | None) -> optax.GradientTransformation:
    """Adds the weight decay to the gradient of the "params", less of it where `lighter` says so."""
    if lighter is None:
        return optax.add_decayed_weights(weight_decay)

    def is_lighter(params: PyTree) -> PyTree:
        return path_aware_map(lambda path, _: path[:-1] in lighter.paths, params)

    def others(params: PyTree) -> PyTree:
        return jax.tree.map(lambda light: not light, is_lighter(params))

    return optax.chain(
        optax.add_decayed_weights(weight_decay * lighter.factor, mask=is_lighter),
        optax.add_decayed_weights(weight_decay, mask=others),
    )


def gradient_of(loss: Callable[..., tuple[Array, PyTree]], recipe: Recipe) -> Callable[..., tuple[PyTree, PyTree]]:
    """(key, params, ...) -> (gradient, what the loss says besides), for a loss (params, ...) -> (value, the rest)."""
    if recipe.estimator == BACKPROPAGATION:
        derivative = jax.grad(loss, has_aux=True)
        return lambda key, params, *rest: derivative(params, *rest)
    estimate = ESTIMATORS[recipe.estimator](recipe)

    def gradient(key: Key, params: PyTree, *rest: PyTree) -> tuple[PyTree, PyTree]:
        found = estimate(key, params, jnp.zeros((), jnp.int32), lambda params: loss(params, *rest))
        return found.gradient, found.metrics

    return gradient


def lighter_decay(network: nn.Module, image_shape: tuple[int, int, int]) -> LighterDecay | None:
    """How much less substitutes decay: by the share of its parameters that the whole network keeps.

    Source: Gray, Crowley & Storkey 2019, section 4 (compression-ratio scaled weight decay).
    """
    if not isinstance(network, SubstitutedNetwork):
        return None
    compressed = without_auxiliary(network)
    assert isinstance(compressed, SubstitutedNetwork)
    ratio = network_cost(compressed, image_shape).params / network_cost(compressed.network, image_shape).params
    return LighterDecay(frozenset(one.path for one in network.replacements), ratio)


def averaged(average: PyTree, variables: PyTree, decay: float, count: Array) -> PyTree:
    """The moving average after one more step, `count` steps being done: early on it forgets faster than by `decay`."""
    kept = jnp.minimum(decay, (count + 1) / (count + 10))
    return jax.tree.map(lambda old, new: kept * old + (1 - kept) * new, average, variables)
