"""How many answers of a network are right, on data that stand on the device and on batches that come one by one."""

from collections.abc import Callable, Iterable

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax

from jaxnas.core.types import Array, PyTree
from jaxnas.data import batches
from jaxnas.data.augment import Augmentation, normalize
from jaxnas.evaluate.training_data import TrainingData


def evaluate(
    network: nn.Module, variables: PyTree, data: TrainingData, *, batch_size: int, augmentation: Augmentation
) -> Array:
    """Share of right answers on all of `data`, with the running statistics."""
    return accuracy_on(answers(network), variables, data, batch_size=batch_size, augmentation=augmentation)


def answers(network: nn.Module) -> Callable[[PyTree, Array], Array]:
    """(variables, normalised images) -> class logits, with the running statistics."""
    return lambda variables, images: network.apply(variables, images, train=False)[0]


def accuracy_on(
    answer: Callable[[PyTree, Array], Array],
    state: PyTree,
    data: TrainingData,
    *,
    batch_size: int,
    augmentation: Augmentation,
    top: int = 1,
) -> Array:
    """`share_right` on all of `data`, as a compiled program of one scalar."""

    @jax.jit
    def accuracy_of(state: PyTree, data: TrainingData) -> Array:
        return share_right(answer, state, data.images, data.labels, batch_size, augmentation, top)

    return accuracy_of(state, data)


def accuracy_on_batches(
    answer: Callable[[PyTree, Array], Array],
    state: PyTree,
    fed: Iterable[tuple[np.ndarray, ...]],
    *,
    augmentation: Augmentation,
    top: int = 1,
) -> float:
    """Share of right answers on batches of images, labels and a mask, 0 where an example does not count."""

    @jax.jit
    def count_right(state: PyTree, images: Array, labels: Array, mask: Array) -> Array:
        return jnp.sum(mask * is_right(answer(state, normalize(augmentation, images)), labels, top))

    right = total = 0.0
    for images, labels, mask in fed:
        right, total = right + float(count_right(state, images, labels, mask)), total + float(mask.sum())
    return right / total


def share_right(
    answer: Callable[[PyTree, Array], Array],
    state: PyTree,
    images: Array,
    labels: Array,
    batch_size: int,
    augmentation: Augmentation,
    top: int = 1,
) -> Array:
    """Share of images whose label is among the `top` largest of (state, images) -> class logits.

    images: uint8 [n, h, w, c]; labels: int [n]. Every batch is full: the last one repeats examples, which do not count.
    """
    count = labels.shape[0]
    rows, mask = batches.evaluation_rows(count, min(batch_size, count))

    def body(correct, scanned):
        rows, mask = scanned
        logits = answer(state, normalize(augmentation, images[rows]))
        return correct + jnp.sum(mask * is_right(logits, labels[rows], top)), None

    return lax.scan(body, jnp.zeros(()), (rows, mask))[0] / count


def is_right(logits: Array, labels: Array, top: int) -> Array:
    """Whether each label int [b] is among the `top` largest of its logits [b, classes]; of equals, the first."""
    if top == 1:
        return jnp.argmax(logits, axis=-1) == labels
    return jnp.any(lax.top_k(logits, top)[1] == labels[:, None], axis=-1)
