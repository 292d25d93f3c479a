"""Training a stand-alone network from scratch, and its one look at the test split.

Sources: Liu, Simonyan & Yang 2019, section 3.2 (drop-path rising linearly with the epoch, an auxiliary head, cutout);
what else a recipe has is told in `evaluate.recipe`, what a teacher adds in `evaluate.distillation`.
"""

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jax import lax

from jaxnas.core.keys import named
from jaxnas.core.types import Array, Key, PyTree
from jaxnas.data import batches
from jaxnas.data.augment import Augmentation, augment
from jaxnas.evaluate.accuracy import answers, share_right
from jaxnas.evaluate.distillation import Distillation, apply_tapped, attention_loss, soft_loss
from jaxnas.evaluate.recipe import PRECISIONS, LighterDecay, Recipe, averaged, gradient_of, optimizer_of
from jaxnas.evaluate.training_data import TrainingData
from jaxnas.networks.initial import init_variables
from jaxnas.search.objectives import accuracy
from jaxnas.train.parallel import Devices
from jaxnas.train.task import Task


class TrainingState(NamedTuple):
    """What training changes: int32 step, {"params", "batch_stats"}, and the optimizer's state.

    average: the moving average of the variables where the recipe asks for one, else ().
    """

    step: Array
    variables: PyTree
    optimizer: optax.OptState
    average: PyTree = ()

    @property
    def judged(self) -> PyTree:
        """The variables that the network is judged by."""
        return self.average or self.variables


def training_task(
    network: nn.Module,
    recipe: Recipe,
    *,
    name: str,
    count: int,
    image_shape: tuple[int, int, int],
    augmentation: Augmentation,
    devices: Devices,
    lighter: LighterDecay | None = None,
    distillation: Distillation | None = None,
    validated: bool = False,
    feed: Callable[[int], Iterator[TrainingData]] | None = None,
    group: str = "retrain",
) -> Task:
    """The task of training `network` on `count` images of `image_shape`; its history holds loss and accuracy.

    lighter: what decays less than the rest. distillation: what is learned from a teacher, whose variables are then
    part of the data. validated: whether images are held out; the history then has "valid_accuracy", too.
    feed: (first step) -> the data of every step from there on, which are then its batch, where not all data stay on
    the device. group: of the config whose batch_size is named where it is too large.
    """
    steps_per_epoch = batches.steps_per_epoch(count, recipe.batch_size, f"{group}.batch_size")
    optimizer = optimizer_of(recipe, steps_per_epoch, lighter)
    gradient_at = gradient_of(_loss(network, recipe, distillation), recipe)

    def init(key: Key, before: PyTree) -> TrainingState:
        del before
        variables = init_variables(network, named(key, "weights"), image_shape)
        average = variables if recipe.average_decay else ()
        return TrainingState(jnp.zeros((), jnp.int32), variables, optimizer.init(variables["params"]), average)

    def step(key, state, data, order, position):
        keys = devices.shard(jax.random.split(named(key, "augment"), recipe.batch_size))
        chosen = jnp.arange(recipe.batch_size) if feed else batches.rows(order, position, recipe.batch_size)
        rows = devices.shard(chosen)
        images, labels = augment(augmentation, keys, data.images[rows]), data.labels[rows]
        noise_key = named(key, "drop_path")
        if devices.axis_name:  # drop-path is noise on examples, so every device draws its own
            noise_key = jax.random.fold_in(noise_key, lax.axis_index(devices.axis_name))
        dropped = recipe.drop_path * (state.step // steps_per_epoch) / recipe.epochs if recipe.drop_path else 0.0

        def part(variables: PyTree, scanned: tuple[Key, Array, Array]) -> tuple[PyTree, PyTree]:
            gradient, (changed, metrics) = gradient_at(
                named(scanned[0], "estimator"), variables["params"], variables, *scanned, dropped, data.teacher
            )
            return variables | changed, (gradient, metrics)

        variables, gradient, metrics = _accumulated(part, state.variables, noise_key, images, labels, recipe.accumulate)
        gradient, variables["batch_stats"], metrics = devices.mean((gradient, variables["batch_stats"], metrics))
        changes, optimizer_state = optimizer.update(gradient, state.optimizer, variables["params"])
        variables["params"] = optax.apply_updates(variables["params"], changes)
        average = averaged(state.average, variables, recipe.average_decay, state.step) if recipe.average_decay else ()
        return TrainingState(state.step + 1, variables, optimizer_state, average), metrics

    def finish_epoch(key, state, data, epoch):
        if not validated:
            return state, {}
        images, labels = data.held_out
        right = share_right(answers(network), state.judged, images, labels, recipe.batch_size, augmentation)
        return state, {"valid_accuracy": right}

    return Task(
        name=name,
        epochs=recipe.epochs,
        steps_per_epoch=steps_per_epoch,
        devices=devices,
        branches=False,
        init=init,
        begin_epoch=lambda key, epoch: () if feed else batches.epoch_order(key, epoch, count),
        step=jax.jit(step),  # traced once, for the rehearsal and for the program
        finish_epoch=finish_epoch,
        feed=feed,
    )


def _accumulated(
    part: Callable[[PyTree, tuple[Key, Array, Array]], tuple[PyTree, PyTree]],
    variables: PyTree,
    key: Key,
    images: Array,
    labels: Array,
    parts: int,
) -> tuple[dict[str, PyTree], PyTree, PyTree]:
    """Variables after a batch cut into parts, one after another, and the means of their gradients and metrics."""
    if parts == 1:
        variables, (gradient, metrics) = part(variables, (key, images, labels))
        return dict(variables), gradient, metrics
    cut = jax.tree.map(lambda leaf: leaf.reshape(parts, -1, *leaf.shape[1:]), (images, labels))
    variables, found = lax.scan(part, variables, (jax.random.split(key, parts), *cut))
    gradient, metrics = jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0), found)
    return dict(variables), gradient, metrics


def _loss(network: nn.Module, recipe: Recipe, distillation: Distillation | None) -> Callable[..., Any]:
    """(params, variables, key, images, labels, drop_path_rate, teacher's variables) -> (loss, (changed, metrics))."""
    precision = PRECISIONS[recipe.precision]
    taps = [] if distillation is None else [student for student, _ in distillation.taps]

    def loss(params, variables, key, images, labels, drop_path_rate, teacher):
        cast = functools.partial(jax.tree.map, lambda leaf: leaf.astype(precision))
        streams = {"drop_path": key, "signs": named(key, "signs")}
        (logits, auxiliary), changed, features = apply_tapped(
            network,
            variables | {"params": cast(params)},
            cast(images),
            taps,
            train=True,
            drop_path_rate=drop_path_rate,
            rngs=streams,
        )
        logits = logits.astype(jnp.float32)
        value = smoothed_cross_entropy(logits, labels, recipe.label_smoothing)
        total, metrics = value, {"loss": value, "accuracy": accuracy(logits, labels)}
        if distillation is not None:
            known = teacher | {"params": cast(teacher["params"])}
            total, more = _distilled(distillation, total, logits, features, known, cast(images))
            metrics |= more
        if auxiliary is not None:
            beside = smoothed_cross_entropy(auxiliary.astype(jnp.float32), labels, recipe.label_smoothing)
            total = total + recipe.auxiliary_weight * beside
        return total, (changed, metrics)

    return loss


def _distilled(
    distillation: Distillation, value: Array, logits: Array, features: list[Array], teacher: PyTree, images: Array
) -> tuple[Array, Mapping[str, Array]]:
    """The loss with what the teacher says added, and these parts of it as metrics."""
    names = [theirs for _, theirs in distillation.taps]
    (said, _), _, shown = apply_tapped(distillation.teacher, teacher, images, names, train=False)
    metrics = {}
    if distillation.soft:
        metrics["soft_loss"] = soft_loss(logits, said.astype(jnp.float32), distillation.temperature)
        value = (1 - distillation.soft) * value + distillation.soft * metrics["soft_loss"]
    if names:
        ours, theirs = ([one.astype(jnp.float32) for one in maps] for maps in (features, shown))
        metrics["attention_loss"] = attention_loss(ours, theirs, distillation.attention)
        value = value + metrics["attention_loss"]
    return value, metrics


def smoothed_cross_entropy(logits: Array, labels: Array, smoothing: float) -> Array:
    """Mean of the cross-entropy with labels int [b] that give `smoothing` of their probability to all classes alike.

    Source: Szegedy et al. 2016, section 7.
    """
    log_probabilities = jax.nn.log_softmax(logits)
    value = -jnp.mean(jnp.take_along_axis(log_probabilities, labels[:, None], axis=-1))
    return (1 - smoothing) * value - smoothing * jnp.mean(log_probabilities) if smoothing else value
