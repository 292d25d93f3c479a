"""From records of a prepared set to arrays of images: decoding, cropping, resizing. What worker processes run.

Nothing here needs JAX, and no draw depends on anything but (seed, position), so that any process may do any part.
"""

import io
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from multiprocessing import parent_process
from typing import Any, NamedTuple

import numpy as np
import PIL.Image

from jaxnas.core.errors import UserError

AREA = (0.08, 1.0)  # of a random crop, as a part of the image's
RATIO = 4 / 3  # of a random crop's sides, at most, either way round
ATTEMPTS = 10  # at drawing a crop that lies within the image
BORDER = 256 / 224  # a test image's shorter side, in the side of the square cut out of its centre

Box = tuple[float, float, float, float]  # left, top, right, bottom


class Records(NamedTuple):
    """One split of a prepared set.

    source: [record] -> a mapping with the features named `image`, encoded bytes or uint8, and `label`, an integer.
    classes: labels are in 0 ... classes - 1.
    """

    dataset: str
    split: str
    source: Sequence[Mapping[str, Any]]
    image: str
    label: str
    classes: int


def start_worker(number: int, workers: int) -> None:
    """Makes a worker process end with its parent, however that ends, and leave signals and accelerators to it."""
    del number, workers
    parent = parent_process()
    if parent is not None:
        threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()
    # Both reach the whole process group; the parent saves its state first and then ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if "jax" in sys.modules:  # grain imports it
        sys.modules["jax"].config.update("jax_platforms", "cpu")


def train_arrays(
    records: Records, size: int, seed: int, block: slice, step: int, rows: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """The part `block` of the batch of one step: uint8 [n, size, size, 3], cropped and flipped, and int32 [n].

    rows: the records of the whole batch. The draws of its example i are a function of (seed, step * batch size + i).
    """
    images, labels = _empty(size, len(rows[block]))
    positions = range(step * len(rows), (step + 1) * len(rows))
    for slot, (position, row) in enumerate(zip(positions[block], rows[block], strict=True)):
        cut = partial(crop, generator=np.random.default_rng((seed, position)), size=size)
        images[slot], labels[slot] = _example(records, int(row), cut)
    return images, labels


def test_arrays(
    records: Records, size: int, block: slice, rows: Sequence[int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The part `block` of the records `rows`: uint8 [n, size, size, 3], int32 [n] and the mask, float32 [n].

    Rows beyond the last record are filling: zeros, in the mask, too.
    """
    images, labels = _empty(size, len(rows[block]))
    mask = np.asarray(rows[block]) < len(records.source)
    for slot, row in enumerate(np.asarray(rows[block])[mask]):
        images[slot], labels[slot] = _example(records, int(row), partial(centre, size=size))
    return images, labels, mask.astype(np.float32)


def crop(image: PIL.Image.Image, generator: np.random.Generator, size: int) -> np.ndarray:
    """A random part of the image (`crop_box`), scaled to uint8 [size, size, 3] and by chance mirrored left to right."""
    left, top, width, height = crop_box(generator, *image.size)
    pixels = _cut(image, (left, top, left + width, top + height), size)
    return pixels[:, ::-1] if generator.random() < 0.5 else pixels


def crop_box(generator: np.random.Generator, width: int, height: int) -> tuple[int, int, int, int]:
    """Draws left, top, width and height of a crop of an image (Szegedy et al. 2015, "Going deeper with convolutions").

    The part of the area is uniform in AREA and the logarithm of the ratio of the sides uniform within RATIO; the first
    of ATTEMPTS such boxes that is no larger than the image goes anywhere in it with the same chance. If none is, it is
    the largest box in the centre whose ratio is within bounds.
    """
    draws = generator.random((4, ATTEMPTS))
    area = width * height * (AREA[0] + (AREA[1] - AREA[0]) * draws[0])
    ratio = RATIO ** (2 * draws[1] - 1)
    widths, heights = (np.rint(np.sqrt(each)).astype(int) for each in (area * ratio, area / ratio))
    fits = (widths >= 1) & (widths <= width) & (heights >= 1) & (heights <= height)
    if not fits.any():
        inner_width, inner_height = min(width, round(height * RATIO)), min(height, round(width * RATIO))
        return (width - inner_width) // 2, (height - inner_height) // 2, inner_width, inner_height
    first = int(fits.argmax())
    inner_width, inner_height = int(widths[first]), int(heights[first])
    left, top = draws[2, first] * (width - inner_width + 1), draws[3, first] * (height - inner_height + 1)
    return int(left), int(top), inner_width, inner_height


def centre(image: PIL.Image.Image, size: int, border: float = BORDER) -> np.ndarray:
    """The central square of the image after its shorter side is scaled to size * border, uint8 [size, size, 3]."""
    width, height = image.size
    shorter = round(size * border)
    resized = [round(side * shorter / min(image.size)) for side in image.size]
    left, top = ((side - size) // 2 for side in resized)
    # The box in the image as it is, so that only what is seen gets scaled.
    box = (
        *(left * width / resized[0], top * height / resized[1]),
        *((left + size) * width / resized[0], (top + size) * height / resized[1]),
    )
    return _cut(image, box, size)


def open_image(content: bytes | np.ndarray) -> PIL.Image.Image:
    """An image from an encoded file, not decoded yet, or from uint8 [height, width] or [height, width, channels]."""
    if isinstance(content, bytes):
        return PIL.Image.open(io.BytesIO(content))
    return PIL.Image.fromarray(content.squeeze(-1) if content.ndim == 3 and content.shape[-1] == 1 else content)


def _cut(image: PIL.Image.Image, box: Box, size: int) -> np.ndarray:
    """Scales a box to uint8 [size, size, 3]: bilinear, over all the pixels below one of the result's."""
    width, height = image.size
    factor = max(1, int(min(box[2] - box[0], box[3] - box[1]) / size))
    # A JPEG decodes several times faster at 1/2, 1/4 or 1/8 of its size, still no smaller than what is wanted.
    draft = image.draft("RGB", (width // factor, height // factor))
    scale = draft[1][2] / width if draft else 1.0
    left, top, right, bottom = (edge * scale for edge in box)
    return np.asarray(_rgb(image).resize((size, size), PIL.Image.Resampling.BILINEAR, (left, top, right, bottom)))


def _rgb(image: PIL.Image.Image) -> PIL.Image.Image:
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I"):  # 16 bits, which Pillow would clip
        image = PIL.Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")


def _example(records: Records, row: int, cut: Callable[[PIL.Image.Image], np.ndarray]) -> tuple[np.ndarray, int]:
    where = f"dataset {records.dataset!r}: record {row} of its split {records.split}"
    try:
        example = records.source[row]
        pixels = cut(open_image(example[records.image]))
    # A damaged record ends in whatever the record reader, the parser or the image decoder raises.
    except Exception as error:
        reason = " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__
        raise UserError(f"{where} cannot be decoded: {reason}; prepare the set again.") from error
    label = int(example[records.label])
    if not 0 <= label < records.classes:
        raise UserError(f"{where} has the label {label}; labels must be in 0 ... {records.classes - 1}.")
    return pixels, label


def _empty(size: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    return np.zeros((count, size, size, 3), np.uint8), np.zeros(count, np.int32)
