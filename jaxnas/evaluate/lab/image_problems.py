"""Networks and batches for the lab's experiment on images: raw, or trained with the vanilla STE for a while."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxnas.core.errors import UserError
from jaxnas.core.keys import at_step, named
from jaxnas.core.threads import kept
from jaxnas.core.types import Array, Batch, Key, Params
from jaxnas.data.augment import Augmentation, normalize, statistics
from jaxnas.data.batches import evaluation_rows
from jaxnas.data.dataset import Dataset
from jaxnas.evaluate.lab.checks import check_count, check_counts, check_list
from jaxnas.networks import sign_resnet
from jaxnas.relax.binary import straight_through

TRAINING_BATCH, TRAINING_RATE = 128, 3e-3  # Adam, falling to zero by a cosine
TEST_BATCH = 500


class Problem(NamedTuple):
    """A network, a batch to improve it on, and the key for whatever is drawn there."""

    params: Params
    batch: Batch
    key: Key


class Problems(NamedTuple):
    """problem: (init, batch, student) -> Problem. accuracy: (init, student) -> the share of test images it gets right.

    The batch depends on seed, init and batch only: raw and trained networks see the same images.
    """

    problem: Callable[[int, int, str], Problem]
    accuracy: Callable[[int, str], float]


def problems(
    *,
    seed: int,
    dataset: Dataset,
    channels: Sequence[int],
    blocks: int,
    binary_weights: bool,
    training: int,
    batch_size: int,
) -> Problems:
    """Networks as `sign_resnet.init` makes them; those called "trained" have had so many steps of `training`.

    Raises UserError for numbers of things below one and a batch larger than the training set.
    """
    check_counts(blocks=blocks, training=training, batch_size=batch_size)
    check_list("channels", channels, check_count)
    count = len(dataset.x_train)
    if batch_size > count:
        raise UserError(f"batch_size must be at most {count}, all training images of {dataset.name}, not {batch_size}.")
    to_floats = Augmentation(0, False, 0, *statistics(dataset.x_train))
    root = named(jax.random.key(seed), "real_layer")

    @kept
    def pixels(part: str) -> Batch:
        x, y = (dataset.x_train, dataset.y_train) if part == "train" else (dataset.x_test, dataset.y_test)
        return Batch(jnp.asarray(x), jnp.asarray(y))

    def rows_of(data: Batch, rows: Array) -> Batch:
        return Batch(normalize(to_floats, data.images[rows]), data.labels[rows])

    @kept
    def student(init: int, kind: str) -> Params:
        key = at_step(root, "init", init)
        made = sign_resnet.init(key, dataset.x_train.shape[3], len(dataset.class_names), channels, blocks)
        if kind == "raw":
            return made
        return _trained(made, pixels("train"), rows_of, named(key, "training"), training, binary_weights)

    @kept
    def problem(init: int, batch: int, kind: str) -> Problem:
        key = at_step(at_step(root, "init", init), "batch", batch)
        rows = jax.random.choice(named(key, "rows"), count, (batch_size,), replace=False)
        return Problem(student(init, kind), rows_of(pixels("train"), rows), key)

    @kept
    def accuracy(init: int, kind: str) -> float:
        return float(_accuracy(student(init, kind), pixels("test"), rows_of, binary_weights))

    return Problems(problem, accuracy)


RowsOf = Callable[[Batch, Array], Batch]  # (all images and labels, numbers) -> those, normalised


def _accuracy(params: Params, data: Batch, rows_of: RowsOf, binary_weights: bool) -> Array:
    """Batches are normalised by their own statistics, so that this depends a little on their size."""

    @jax.jit
    def run(params: Params, data: Batch) -> Array:
        def right(one: tuple[Array, Array]) -> Array:
            batch = rows_of(data, one[0])
            logits = sign_resnet.apply(params, batch.images, binary_weights=binary_weights)
            return jnp.sum((logits.argmax(axis=1) == batch.labels) * one[1])

        count = len(data.labels)
        return jax.lax.map(right, evaluation_rows(count, min(TEST_BATCH, count))).sum() / count

    return run(params, data)


def _trained(params: Params, data: Batch, rows_of: RowsOf, key: Key, steps: int, binary_weights: bool) -> Params:
    optimizer = optax.adam(optax.cosine_decay_schedule(TRAINING_RATE, steps))
    activation = straight_through("clipped")

    def loss(params: Params, batch: Batch) -> Array:
        logits = sign_resnet.apply(params, batch.images, activation, binary_weights=binary_weights)
        return sign_resnet.cross_entropy(logits, batch.labels)

    @jax.jit
    def run(params: Params, data: Batch) -> Params:
        def step(carry, number):
            params, state = carry
            rows = jax.random.randint(jax.random.fold_in(key, number), (TRAINING_BATCH,), 0, len(data.labels))
            changes, state = optimizer.update(jax.grad(loss)(params, rows_of(data, rows)), state)
            return (optax.apply_updates(params, changes), state), None

        return jax.lax.scan(step, (params, optimizer.init(params)), jnp.arange(steps))[0][0]

    return run(params, data)
