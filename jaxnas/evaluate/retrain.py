"""Training a derived architecture from scratch as a stand-alone network, and its one look at the test split.

Source: Liu, Simonyan & Yang 2019, section 3.2 (SGD with momentum, cosine rate, drop-path rising linearly with the
epoch, an auxiliary head, clipped gradients, cutout).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jax import lax

from jaxnas.core.keys import named
from jaxnas.core.types import Array, Key, PyTree
from jaxnas.data import batches
from jaxnas.data.augment import Augmentation, augment, normalize
from jaxnas.networks.cell_network import init_variables
from jaxnas.search.objectives import accuracy, cross_entropy
from jaxnas.search.optimizers import sgd
from jaxnas.train.parallel import Devices
from jaxnas.train.task import Task


class Recipe(NamedTuple):
    """How to train a stand-alone network; the rate goes from learning_rate to 0 by a cosine over all steps.

    drop_path: the rate reached at the end. auxiliary_weight: of the auxiliary head's loss, where the network has one.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    momentum: float
    weight_decay: float
    clip: float
    drop_path: float
    auxiliary_weight: float


class TrainingData(NamedTuple):
    """Labelled images on the device: uint8 [n, h, w, c] and int32 [n]."""

    images: Array
    labels: Array


class TrainingState(NamedTuple):
    """What training changes: int32 step, {"params", "batch_stats"}, and the optimizer's state."""

    step: Array
    variables: PyTree
    optimizer: optax.OptState


def training_task(
    network: nn.Module,
    recipe: Recipe,
    *,
    name: str,
    count: int,
    image_shape: tuple[int, int, int],
    augmentation: Augmentation,
    devices: Devices,
) -> Task:
    """The task of training `network` on `count` images of `image_shape`; its history holds loss and accuracy."""
    steps_per_epoch = batches.steps_per_epoch(count, recipe.batch_size, "retrain.batch_size")
    rate = optax.cosine_decay_schedule(recipe.learning_rate, recipe.epochs * steps_per_epoch)
    optimizer = sgd(rate, momentum=recipe.momentum, weight_decay=recipe.weight_decay, clip=recipe.clip)

    def init(key: Key, before: PyTree) -> TrainingState:
        del before
        variables = init_variables(network, named(key, "weights"), image_shape)
        return TrainingState(jnp.zeros((), jnp.int32), variables, optimizer.init(variables["params"]))

    def step(key, state, data, order, position):
        augment_key, drop_key = named(key, "augment"), named(key, "drop_path")
        keys = devices.shard(jax.random.split(augment_key, recipe.batch_size))
        rows = devices.shard(batches.rows(order, position, recipe.batch_size))
        images, labels = augment(augmentation, keys, data.images[rows]), data.labels[rows]
        epoch = state.step // steps_per_epoch
        drop_path_rate = recipe.drop_path * epoch / recipe.epochs if recipe.drop_path else 0.0
        if devices.axis_name:  # drop-path is noise on examples, so every device draws its own
            drop_key = jax.random.fold_in(drop_key, lax.axis_index(devices.axis_name))

        def loss(params):
            (logits, auxiliary), updated = network.apply(
                state.variables | {"params": params},
                images,
                train=True,
                drop_path_rate=drop_path_rate,
                rngs={"drop_path": drop_key},
                mutable=["batch_stats"],
            )
            value = cross_entropy(logits, labels)
            total = value if auxiliary is None else value + recipe.auxiliary_weight * cross_entropy(auxiliary, labels)
            return total, (updated["batch_stats"], {"loss": value, "accuracy": accuracy(logits, labels)})

        gradient, (batch_stats, metrics) = jax.grad(loss, has_aux=True)(state.variables["params"])
        gradient, batch_stats, metrics = devices.mean((gradient, batch_stats, metrics))
        changes, optimizer_state = optimizer.update(gradient, state.optimizer, state.variables["params"])
        params = optax.apply_updates(state.variables["params"], changes)
        variables = {"params": params, "batch_stats": batch_stats}
        return TrainingState(state.step + 1, variables, optimizer_state), metrics

    return Task(
        name=name,
        epochs=recipe.epochs,
        steps_per_epoch=steps_per_epoch,
        devices=devices,
        branches=False,
        init=init,
        begin_epoch=lambda key, epoch: batches.epoch_order(key, epoch, count),
        step=jax.jit(step),  # traced once, for the rehearsal and for the program
        finish_epoch=lambda key, state, data, epoch: (state, {}),
    )


def evaluate(
    network: nn.Module, variables: PyTree, data: TrainingData, *, batch_size: int, augmentation: Augmentation
) -> Array:
    """Share of right answers on all of `data`, with the running statistics."""

    def answer(variables: PyTree, images: Array) -> Array:
        logits, _ = network.apply(variables, images, train=False)
        return logits

    return accuracy_on(answer, variables, data, batch_size=batch_size, augmentation=augmentation)


def accuracy_on(
    answer: Callable[[PyTree, Array], Array],
    state: PyTree,
    data: TrainingData,
    *,
    batch_size: int,
    augmentation: Augmentation,
) -> Array:
    """Share of right answers of (state, images) -> class logits on all of `data`; a compiled program of one scalar.

    Every batch is full: the last one repeats examples, which do not count.
    """
    count = data.labels.shape[0]
    rows, mask = batches.evaluation_rows(count, min(batch_size, count))

    @jax.jit
    def accuracy_of(state: PyTree, data: TrainingData) -> Array:
        def body(correct, scanned):
            rows, mask = scanned
            logits = answer(state, normalize(augmentation, data.images[rows]))
            return correct + jnp.sum(mask * (jnp.argmax(logits, axis=-1) == data.labels[rows])), None

        return lax.scan(body, jnp.zeros(()), (rows, mask))[0] / count

    return accuracy_of(state, data)
