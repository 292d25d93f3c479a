"""What every data source returns, and the checks that all of them pass through.

This module imports numpy only, so that reading and checking data never waits for JAX.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxnas.core.errors import UserError


class Dataset(NamedTuple):
    """An image-classification set in memory, on the host.

    x_train, x_test: uint8 [n, height, width, channels], the same height, width and channels in both.
    y_train, y_test: int32 [n], in 0 ... len(class_names) - 1.
    class_names: one name for every class, in the order of the labels.
    """

    name: str
    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    class_names: tuple[str, ...]


def make_dataset(
    name: str,
    x_train: np.ndarray,
    y_train: np.ndarray,
    x_test: np.ndarray,
    y_test: np.ndarray,
    class_names: Sequence[str] = (),
) -> Dataset:
    """Checks arrays and puts them into the form of `Dataset`.

    Images are uint8 [n, height, width, channels]; grey images [n, height, width] get a channel axis. Labels are
    integers [n]. Without `class_names` there are max(y_train) + 1 classes, named by their numbers.

    Raises UserError, naming the array, for: another dtype or rank, channels first, no images, as many labels as images
    missing, negative labels, labels beyond the last class, and train and test images of different shapes.
    """
    x_train, x_test = _images(name, "x_train", x_train), _images(name, "x_test", x_test)
    if x_train.shape[1:] != x_test.shape[1:]:
        raise UserError(
            f"{name}: the images of x_train have the shape {x_train.shape[1:]} but those of x_test {x_test.shape[1:]}; "
            "both must be the same."
        )
    y_train = _labels(name, "y_train", y_train, len(x_train))
    y_test = _labels(name, "y_test", y_test, len(x_test))
    names = tuple(str(each) for each in class_names) or _numbered_classes(name, y_train)
    if len(names) < 2:
        raise UserError(f"{name}: there is one class only, {''.join(names)!r}; a classification needs at least two.")
    for field, labels in (("y_train", y_train), ("y_test", y_test)):
        if labels.max() >= len(names):
            raise UserError(
                f"{name}: {field} holds the label {labels.max()}, but there are {len(names)} classes, "
                f"so labels must be in 0 ... {len(names) - 1}."
            )
    return Dataset(name, x_train, y_train.astype(np.int32), x_test, y_test.astype(np.int32), names)


def _images(name: str, field: str, images: np.ndarray) -> np.ndarray:
    expected = "uint8 [n, height, width, channels]"
    if images.dtype != np.uint8:
        raise UserError(
            f"{name}: {field} must be {expected}, not {images.dtype}; scale its values to 0 ... 255 and convert them "
            "to uint8."
        )
    if images.ndim not in (3, 4):
        raise UserError(f"{name}: {field} must be {expected}, but its shape is {images.shape}.")
    if images.size == 0:
        raise UserError(f"{name}: {field} is empty (its shape is {images.shape}); it must be {expected}.")
    if images.ndim == 3:
        return images[..., None]
    if images.shape[1] in (1, 3) and images.shape[3] > 4:
        raise UserError(
            f"{name}: {field} has the shape {images.shape}, which looks like channels first; it must be {expected}, "
            "as numpy.transpose(images, (0, 2, 3, 1)) makes it."
        )
    return images


def _labels(name: str, field: str, labels: np.ndarray, count: int) -> np.ndarray:
    if not np.issubdtype(labels.dtype, np.integer):
        raise UserError(f"{name}: {field} must hold integer labels [n], not {labels.dtype}.")
    if labels.ndim != 1:
        raise UserError(f"{name}: {field} must hold one label for every image, [n], but its shape is {labels.shape}.")
    if len(labels) != count:
        raise UserError(f"{name}: {field} holds {len(labels)} labels for {count} images; both must be as many.")
    if labels.min() < 0:
        raise UserError(f"{name}: {field} holds the negative label {labels.min()}; labels must start at 0.")
    return labels


def _numbered_classes(name: str, y_train: np.ndarray) -> tuple[str, ...]:
    """Classes 0 ... max(y_train). A mostly empty range is a stray label, which would give the network a huge head."""
    highest, distinct = int(y_train.max()), len(np.unique(y_train))
    if 2 * distinct < highest + 1:
        raise UserError(
            f"{name}: y_train holds the label {highest} but only {distinct} different labels, so it is out of range; "
            "labels must be 0 ... classes - 1 (an array class_names allows classes without examples)."
        )
    return tuple(str(number) for number in range(highest + 1))
