"""A search as a task: which batches a method gets, and how it is validated after every epoch."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from jaxnas.core.errors import UserError
from jaxnas.core.types import Architecture, Array, Batch, Key, PyTree, Space
from jaxnas.data import batches
from jaxnas.data.augment import Augmentation, augment, normalize
from jaxnas.methods import Stage
from jaxnas.search.monitor import Limits, begin_watch, signs, sound, watch
from jaxnas.search.objectives import Batches, SearchState
from jaxnas.train.parallel import Devices
from jaxnas.train.task import LOSS, Task

NO_LIMITS = Limits()


class SearchData(NamedTuple):
    """The training split on the device, images uint8 [n, h, w, c] and labels int32 [n], and its two halves' rows."""

    images: Array
    labels: Array
    train_rows: Array
    valid_rows: Array


def search_task(
    stage: Stage,
    space: Space,
    *,
    batch_size: int,
    counts: tuple[int, int],
    augmentation: Augmentation,
    devices: Devices,
    limits: Limits = NO_LIMITS,
    curvature: Callable[[SearchState, Batch], Array] | None = None,
) -> Task:
    """The task of searching with the method of a stage.

    counts: the sizes of the two halves of the training split. limits: when to stop early.
    curvature: measures the curvature of the loss in the logits after every epoch, None to leave that out.
    """
    method = stage.method
    train_count, valid_count = counts
    validate = _validator(devices, augmentation, batch_size, counts)

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

    def init(key, before):
        state = method.init(key) if stage.enter is None else stage.enter(key, sound(before))
        return begin_watch(state, method.derive(state))

    def finish_epoch(key, state, data, epoch):
        loss = accuracy = jnp.full((), jnp.nan)
        if method.predict is not None:
            loss, accuracy = validate(functools.partial(method.predict, state), data)

        def judge(architecture: Architecture, *, share: Array | float = 1.0, calibrate: int = 0) -> Array:
            if method.child is None:
                raise ValueError("the supernet of this method has no weights for its architectures.")
            own = {"calibrate": calibrate} if calibrate else {}
            return validate(functools.partial(method.child, state, architecture, **own), data, share, calibrate)[1]

        state, search_accuracy = method.finish_epoch(key, state, epoch, accuracy, judge)
        probabilities, architecture = method.probabilities(state), method.derive(state)
        accuracy = search_accuracy if method.predict is None else accuracy
        row = {"valid_loss": loss, "valid_accuracy": accuracy, "search_accuracy": search_accuracy}
        row |= method.metrics(state)
        row |= {f"probabilities/{part}": values for part, values in probabilities.items()}
        row |= {f"architecture/{part}": values for part, values in architecture.items()}
        row |= signs(space, probabilities, architecture)
        row["entropy"] = jnp.mean(jnp.concatenate([row[f"entropy/{part}"] for part in probabilities]))
        sharpness = jnp.zeros(())
        if curvature is not None:
            rows = devices.shard(data.valid_rows[:batch_size])
            batch = Batch(normalize(augmentation, data.images[rows]), data.labels[rows])
            sharpness = row["curvature"] = curvature(state, batch)
        return watch(limits, space, state, architecture, search_accuracy, epoch, sharpness), row

    def checked(state: SearchState) -> PyTree:
        bad = jnp.zeros((), bool) if method.fault is None else method.fault(state)[0]
        return state._replace(memory=()), jnp.where(bad, jnp.nan, 0.0)  # a memory may hold marks that are not finite

    def fault(state: SearchState) -> tuple[str, str]:
        bad, architecture = (False, {}) if method.fault is None else method.fault(state)
        return (f"the reward of {space.canonical(architecture)}", "another cost or penalty") if bad else LOSS

    return Task(
        name=stage.name,
        epochs=stage.epochs,
        steps_per_epoch=stage.steps_per_epoch or train_count // batch_size,
        devices=devices,
        branches=method.branches,
        init=init,
        begin_epoch=begin_epoch,
        step=jax.jit(step),  # traced once, for the rehearsal and for the program
        finish_epoch=finish_epoch,
        stream=stage.name if stage.enter else "",
        ended=(lambda state: state.watch.stopped >= 0) if limits.any else None,
        checked=checked,
        fault=fault,
        room=stage.room,
    )


def _validator(
    devices: Devices, augmentation: Augmentation, batch_size: int, counts: tuple[int, int]
) -> Callable[..., tuple[Array, Array]]:
    """(predict, data, share, calibrate) -> mean loss and accuracy over that share of the validation half's batches.

    calibrate: so many images of the other half go before those of every batch, for `predict` to normalise by.
    """
    train_count, valid_count = counts

    def validate(
        predict: Callable[[Array], Array], data: SearchData, share: Array | float = 1.0, calibrate: int = 0
    ) -> tuple[Array, Array]:
        if calibrate > train_count:
            raise UserError(
                f"method.calibrate is {calibrate}, but the weights learn from {train_count} images; take fewer."
            )
        rows, mask = batches.evaluation_rows(valid_count, batch_size)
        # Rounded up, but for the rounding of the share itself.
        count = jnp.clip(jnp.ceil(share * len(rows) - 1e-3), 1, len(rows)).astype(jnp.int32)
        first = normalize(augmentation, data.images[data.train_rows[:calibrate]])

        def body(number, sums):
            own, weights = (devices.shard(leaf[number]) for leaf in (rows, mask))
            chosen = data.valid_rows[own]
            images = normalize(augmentation, data.images[chosen])
            logits = predict(jnp.concatenate([first, images]) if calibrate else images)[calibrate:]
            labels = data.labels[chosen]
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
            correct = jnp.argmax(logits, axis=-1) == labels
            return sums[0] + jnp.sum(weights * losses), sums[1] + jnp.sum(weights * correct)

        sums = lax.fori_loop(0, count, body, (jnp.zeros(()), jnp.zeros(())))
        loss, accuracy = devices.total(sums)
        examples = jnp.minimum(count * batch_size, valid_count)
        return loss / examples, accuracy / examples

    return validate
