"""The data of a training program."""

from typing import NamedTuple

from jaxnas.core.types import Array, PyTree


class TrainingData(NamedTuple):
    """Labelled images on the device: uint8 [n, h, w, c] and int32 [n].

    teacher: the variables of one, () without. held_out: (images, labels) to validate on after every epoch, or ().
    """

    images: Array
    labels: Array
    teacher: PyTree = ()
    held_out: tuple[Array, Array] | tuple[()] = ()
