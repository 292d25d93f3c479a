"""Predicting accuracies: a small network over one-hot architectures, trained on some whose accuracy was measured.

The predictor of Once-for-All (Cai et al. 2020, section 3.4): a perceptron of three hidden layers. It takes the place of
validation images in a search, and is only as good as its order: what it was not trained on tells how good that is.
Everything works under jit and vmap; the number of architectures that are known may depend on data.
"""

import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxnas.core.errors import UserError
from jaxnas.core.keys import at_step, named
from jaxnas.core.types import Architecture, Array, Key, Space
from jaxnas.search.optimizers import adam
from jaxnas.spaces.space import features


class Fitting(NamedTuple):
    """How a predictor is trained: by Adam, at a rate that falls to 0 by a cosine.

    hidden: the widths of the hidden layers. steps: of so many pairs each, drawn with replacement (`batch`).
    weight_decay: added to the gradient. held_out: the share of the pairs that are kept to look at its errors.
    """

    hidden: tuple[int, ...]
    steps: int
    batch: int
    learning_rate: float
    weight_decay: float
    held_out: float


class Predictor(NamedTuple):
    """A perceptron with rectified hidden layers, and the mean and standard deviation of the accuracies it learned from.

    layers: the weights [inputs, outputs] and biases [outputs] of each.
    """

    layers: tuple[tuple[Array, Array], ...]
    mean: Array
    scale: Array


class HeldOut(NamedTuple):
    """Predicted and measured accuracies [n] of what a predictor was not trained on; which of them there are, [n]."""

    predicted: Array
    measured: Array
    counts: Array


class Agreement(NamedTuple):
    """How predictions agree with measurements: √ of the mean squared error, Kendall's τ-b and Spearman's ρ.

    NaN where nothing is compared; the correlations also where all are predicted, or measured, to be the same.
    """

    rmse: Array
    kendall: Array
    spearman: Array


def untrained(space: Space, settings: Fitting, key: Key) -> Predictor:
    """A predictor with random weights of variance 2 / inputs (He et al. 2015), which answers about 0."""
    inputs = sum(choices * options for choices, options in space.shapes.values())
    widths = (inputs, *settings.hidden, 1)
    layers = tuple(
        (jax.random.normal(at_step(key, "layer", number), (fan_in, width)) * (2 / fan_in) ** 0.5, jnp.zeros(width))
        for number, (fan_in, width) in enumerate(itertools.pairwise(widths))
    )
    return Predictor(layers, jnp.zeros(()), jnp.ones(()))


def predict(predictor: Predictor, space: Space, architectures: Architecture) -> Array:
    """The accuracies [n] that are predicted of architectures {part: [n, choices]}."""
    return _standardised(predictor, _features(space, architectures)) * predictor.scale + predictor.mean


def _features(space: Space, architectures: Architecture) -> Array:
    return jax.vmap(lambda one: features(space, one))(architectures)


def _standardised(predictor: Predictor, inputs: Array) -> Array:
    *hidden, (weights, bias) = predictor.layers
    for kernel, shift in hidden:
        inputs = jax.nn.relu(inputs @ kernel + shift)
    return (inputs @ weights + bias)[:, 0]


def train_predictor(
    space: Space, settings: Fitting, key: Key, architectures: Architecture, accuracies: Array, known: Array
) -> tuple[Predictor, HeldOut]:
    """A predictor trained on those pairs of architectures {part: [n, choices]} and accuracies [n] that are known [n].

    A random share of them is held out and only looked at. What is minimised is the mean squared error of accuracies
    that were standardised by the mean and standard deviation of those trained on.
    """
    slots, count = int(settings.held_out * known.size), jnp.sum(known)
    held = jnp.minimum(jnp.floor(settings.held_out * count).astype(jnp.int32), slots)
    # Known ones in random order, of which the first are held out, and then all others.
    order = jnp.argsort(jnp.where(known, jax.random.uniform(named(key, "held out"), known.shape), jnp.inf))
    trained = (jnp.arange(known.size) >= held) & (jnp.arange(known.size) < count)
    ordered = accuracies[order]
    mean, scale = jnp.mean(ordered, where=trained), jnp.std(ordered, where=trained)
    begun = untrained(space, settings, named(key, "weights"))._replace(mean=mean, scale=scale)
    inputs = _features(space, architectures)[order]
    targets = (ordered - mean) / jnp.where(scale > 0, scale, 1.0)
    predictor = _trained(begun, settings, named(key, "batches"), inputs, targets, held, count)
    predicted = _standardised(predictor, inputs[:slots]) * predictor.scale + predictor.mean
    return predictor, HeldOut(predicted, ordered[:slots], jnp.arange(slots) < held)


def _trained(
    begun: Predictor, settings: Fitting, key: Key, inputs: Array, targets: Array, first: Array, end: Array
) -> Predictor:
    """The predictor after all steps, on rows from `first` up to `end`."""
    schedule = optax.cosine_decay_schedule(settings.learning_rate, settings.steps)
    optimizer = adam(schedule, b1=0.9, b2=0.999, weight_decay=settings.weight_decay)

    def loss(layers, rows):
        return jnp.mean((_standardised(begun._replace(layers=layers), inputs[rows]) - targets[rows]) ** 2)

    def step(carry, number):
        layers, state = carry
        rows = jax.random.randint(at_step(key, "rows", number), (settings.batch,), first, jnp.maximum(end, first + 1))
        changes, state = optimizer.update(jax.grad(loss)(layers, rows), state, layers)
        return (optax.apply_updates(layers, changes), state), None

    start = begun.layers, optimizer.init(begun.layers)
    (layers, _), _ = jax.lax.scan(step, start, jnp.arange(settings.steps))
    return begun._replace(layers=layers)


def agreement(predicted: Array, measured: Array, counts: Array) -> Agreement:
    """How predicted and measured accuracies [n] agree over those that count [n]; O(n²), under jit and vmap.

    τ-b and ρ count ties as `evaluate.ranking.rank_correlation` does.
    """
    squares = jnp.where(counts, (predicted - measured) ** 2, 0.0)
    ranks = _ranks(predicted, counts), _ranks(measured, counts)
    pairs = counts[:, None] & counts
    signs = (jnp.where(pairs, jnp.sign(values[:, None] - values), 0.0) for values in (predicted, measured))
    return Agreement(
        jnp.sqrt(jnp.sum(squares) / jnp.sum(counts)),
        _cosine(*(sign.ravel() for sign in signs)),
        _cosine(*(jnp.where(counts, rank - jnp.mean(rank, where=counts), 0.0) for rank in ranks)),
    )


def _ranks(values: Array, counts: Array) -> Array:
    """How many of those that count are below each value, and half of those that equal it."""
    below, equal = values[:, None] > values, values[:, None] == values
    return jnp.sum(jnp.where(counts, below + 0.5 * equal, 0.0), axis=1)


def _cosine(one: Array, other: Array) -> Array:
    """The cosine of the angle between two vectors: τ-b of the signs of all pairs, ρ of centred ranks."""
    return jnp.vdot(one, other) / jnp.sqrt(jnp.vdot(one, one) * jnp.vdot(other, other))


def check_same_space(trained_on: Space, space: Space) -> None:
    """Raises UserError unless a predictor's space is this one: the same name, choices and options."""
    if trained_on.name != space.name:
        difference = "which is another space"
    else:
        parts = dict.fromkeys((*trained_on.shapes, *space.shapes))
        differing = [part for part in parts if _part(trained_on, part) != _part(space, part)]
        if not differing:
            return
        told = (_part(one, differing[0]) for one in (trained_on, space))
        difference = f"whose part {differing[0]!r} has {' instead of '.join(reversed([*map(_told, told)]))}"
    raise UserError(
        f"the predictor was trained on the space {trained_on.name!r}, but is applied to {space.name!r}, {difference}; "
        "take the predictor of a search of this space."
    )


def _part(space: Space, part: str) -> tuple[int, tuple[str, ...], bytes] | None:
    """What two spaces need to have in common in a part."""
    if part not in space.shapes:
        return None
    return space.shapes[part][0], tuple(space.options[part]), space.allowed[part].tobytes()


def _told(part: tuple[int, tuple[str, ...], bytes] | None) -> str:
    return "no choices" if part is None else f"{part[0]} choices of {', '.join(part[1])}"
