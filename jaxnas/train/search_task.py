"""A search as a task: which batches a method gets, and how it is validated after every epoch."""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from jaxnas.core.types import Array, Batch, Key, PyTree
from jaxnas.data import batches
from jaxnas.data.augment import Augmentation, augment, normalize
from jaxnas.methods import Method
from jaxnas.search.objectives import Batches
from jaxnas.train.parallel import Devices
from jaxnas.train.task import Task


class SearchData(NamedTuple):
    """The training split on the device, images uint8 [n, h, w, c] and labels int32 [n], and its two halves' rows."""

    images: Array
    labels: Array
    train_rows: Array
    valid_rows: Array


def search_task(
    method: Method,
    *,
    epochs: int,
    batch_size: int,
    counts: tuple[int, int],
    augmentation: Augmentation,
    devices: Devices,
) -> Task:
    """The task of searching with a method; `counts` are the sizes of the two halves of the training split."""
    train_count, valid_count = counts

    def begin_epoch(key: Key, epoch: Array) -> tuple[Array, Array]:
        halves = zip(jax.random.split(key), (train_count, valid_count), strict=True)
        train, valid = (batches.epoch_order(half, epoch, count) for half, count in halves)
        return train, valid

    def step(key, state, data, order, position):
        keys = jax.random.split(key, 3)
        train_order, valid_order = order
        # The half for the architecture may be smaller: it starts again when it is used up.
        again = position % (valid_count // batch_size)
        both = Batches(
            train=_batch(keys[0], data, data.train_rows[batches.rows(train_order, position, batch_size)]),
            valid=_batch(keys[1], data, data.valid_rows[batches.rows(valid_order, again, batch_size)]),
        )
        state, metrics = method.step(keys[2], state, both)
        return state, devices.mean(metrics)

    def _batch(key: Key, data: SearchData, rows: Array) -> Batch:
        """Cuts out this device's share of a batch; every example has its own key, wherever it is computed."""
        keys, rows = devices.shard(jax.random.split(key, batch_size)), devices.shard(rows)
        return Batch(augment(augmentation, keys, data.images[rows]), data.labels[rows])

    def finish_epoch(key, state, data, epoch):
        loss, accuracy = validate(state, data)
        state, search_accuracy = method.finish_epoch(key, state, epoch, accuracy)
        probabilities = method.probabilities(state)
        row = {"valid_loss": loss, "valid_accuracy": accuracy, "search_accuracy": search_accuracy}
        row["entropy"] = _mean_entropy(probabilities)
        return state, row | {f"probabilities/{part}": values for part, values in probabilities.items()}

    def validate(state: PyTree, data: SearchData) -> tuple[Array, Array]:
        rows, mask = batches.evaluation_rows(valid_count, batch_size)

        def body(sums, scanned):
            rows, mask = (devices.shard(leaf) for leaf in scanned)
            chosen = data.valid_rows[rows]
            logits = method.predict(state, normalize(augmentation, data.images[chosen]))
            labels = data.labels[chosen]
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
            correct = jnp.argmax(logits, axis=-1) == labels
            return (sums[0] + jnp.sum(mask * losses), sums[1] + jnp.sum(mask * correct)), None

        sums, _ = lax.scan(body, (jnp.zeros(()), jnp.zeros(())), (rows, mask))
        loss, accuracy = devices.total(sums)
        return loss / valid_count, accuracy / valid_count

    return Task(
        name="search",
        epochs=epochs,
        steps_per_epoch=train_count // batch_size,
        devices=devices,
        branches=method.branches,
        init=method.init,
        begin_epoch=begin_epoch,
        step=jax.jit(step),  # traced once, for the rehearsal and for the program
        finish_epoch=finish_epoch,
    )


def _mean_entropy(probabilities: Mapping[str, Array]) -> Array:
    """Mean over choices of -Σ p log p, in nats."""
    terms = [-jnp.sum(jax.scipy.special.xlogy(values, values), axis=-1) for values in probabilities.values()]
    return jnp.mean(jnp.concatenate(terms))
