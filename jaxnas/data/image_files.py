"""Image files read as a network's test images were prepared."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from jaxnas.core.errors import UserError
from jaxnas.data.stream_images import centre

COLOURS = {1: "L", 3: "RGB"}  # Pillow's name for images of so many channels


def read_images(
    paths: Sequence[str | os.PathLike[str]], image_shape: tuple[int, int, int], border: float = 1.0
) -> np.ndarray:
    """Image files as uint8 [n, height, width, channels], as the network's images were prepared for testing.

    An image of another size is scaled, its shorter side to the network's times `border`, and its centre is taken (see
    `data.stream_images.centre`), for networks that read squares. Grey ones
    become coloured, and coloured ones grey, where the network reads the other; transparency is ignored. Raises
    UserError for a file that is missing, no image or unsuitable, and for channels other than 1 or 3.
    """
    if image_shape[-1] not in COLOURS:
        raise UserError(f"the network reads images of {image_shape[-1]} channels, but image files have 1 or 3.")
    images = np.empty((len(paths), *image_shape), np.uint8)
    for number, path in enumerate(paths):
        name = os.fspath(path)
        if not Path(path).is_file():
            raise UserError(f"there is no image file {name!r}.")
        try:
            with Image.open(path) as image:
                images[number] = _prepared(image, name, image_shape, border).reshape(image_shape)
        except UserError:
            raise
        except Exception as error:  # Pillow's readers of formats raise whatever they meet
            raise UserError(f"{name!r} is not an image that can be read ({error}).") from error
    return images


def _prepared(image: Image.Image, name: str, image_shape: tuple[int, int, int], border: float) -> np.ndarray:
    """The pixels of an opened file, upright: uint8 [height, width], or [height, width, 3]."""
    height, width, channels = image_shape
    if image.mode.startswith(("I", "F")):  # Pillow would clip the values instead of scaling them
        raise UserError(f"{name!r} has more than 8 bits a channel; save it with 8.")
    ImageOps.exif_transpose(image, in_place=True)  # a photo may be stored lying, with a note of it
    if image.size != (width, height):
        if width != height:
            size = f"{image.width}x{image.height} pixels"
            raise UserError(f"{name!r} has {size}, but the network reads {width}x{height}; resize it.")
        image = Image.fromarray(centre(image, height, border))
    return np.asarray(image.convert(COLOURS[channels]))
