"""CIFAR-10 and CIFAR-100 for tensorflow-datasets, prepared without TensorFlow (Krizhevsky 2009).

The builders that come with tensorflow-datasets unpack the archive and encode the images with TensorFlow. These ones
read the archive by `tarfile` and store the pixels as they are.
"""

import tarfile
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, NamedTuple, cast

import numpy as np
import tensorflow_datasets as tfds

from jaxnas.core.errors import UserError

SIDE, CHANNELS = 32, 3
PIXELS = CHANNELS * SIDE * SIDE


class Layout(NamedTuple):
    """How an archive of binary CIFAR files is laid out.

    A record is `label_bytes` labels, of which the last one counts, then 3,072 pixels, channels first.
    """

    url: str
    folder: str
    label_bytes: int
    splits: Mapping[str, tuple[str, ...]]
    class_names_file: str
    classes: int


class _Cifar(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """A builder by `Layout`; `archive` names a file fetched by hand, to be used in place of a download."""

    VERSION = tfds.core.Version("1.0.0")
    LAYOUT: ClassVar[Layout]

    def __init__(self, *, archive: str | None = None, **settings: Any):
        self._archive = archive
        super().__init__(**settings)

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "image": tfds.features.Tensor(shape=(SIDE, SIDE, CHANNELS), dtype=np.uint8),
            "label": tfds.features.ClassLabel(num_classes=self.LAYOUT.classes),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("image", "label"),
            homepage="https://www.cs.toronto.edu/~kriz/cifar.html",
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
        archive = str(self._archive or dl_manager.download(self.LAYOUT.url))
        lines = _member(archive, f"{self.LAYOUT.folder}/{self.LAYOUT.class_names_file}").decode().split()
        cast(Any, self.info.features)["label"].names = lines
        return {split: self._generate_examples(archive, files) for split, files in self.LAYOUT.splits.items()}

    def _generate_examples(self, archive: str, files: tuple[str, ...]) -> Iterator[tuple[int, dict[str, Any]]]:
        key = 0
        for file in files:
            for image, label in zip(*_records(archive, file, self.LAYOUT), strict=True):
                yield key, {"image": image, "label": int(label)}
                key += 1


def _records(archive: str, file: str, layout: Layout) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 [n, 32, 32, 3] and labels uint8 [n] of one file of the archive."""
    content = np.frombuffer(_member(archive, f"{layout.folder}/{file}"), np.uint8)
    length = layout.label_bytes + PIXELS
    if len(content) % length:
        raise UserError(f"{file} in {archive} is damaged: {len(content)} bytes are not whole records of {length}.")
    records = content.reshape(-1, length)
    images = records[:, layout.label_bytes :].reshape(-1, CHANNELS, SIDE, SIDE).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images), records[:, layout.label_bytes - 1]


def _member(archive: str, name: str) -> bytes:
    try:
        with tarfile.open(archive) as tar:
            file = tar.extractfile(name)
            if file is None:
                raise KeyError(name)
            return file.read()
    except KeyError as error:
        raise UserError(f"the archive {archive} holds no file {name}; is it the binary version?") from error
    except (OSError, EOFError, tarfile.TarError) as error:
        raise UserError(f"the archive {archive} cannot be read: {error}.") from error


class Cifar10(_Cifar, skip_registration=True):
    """50,000 + 10,000 images, 32x32x3, of 10 classes."""

    LAYOUT = Layout(
        url="https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
        folder="cifar-10-batches-bin",
        label_bytes=1,
        splits={"train": tuple(f"data_batch_{number}.bin" for number in range(1, 6)), "test": ("test_batch.bin",)},
        class_names_file="batches.meta.txt",
        classes=10,
    )


class Cifar100(_Cifar, skip_registration=True):
    """50,000 + 10,000 images, 32x32x3, of 100 classes (the fine labels)."""

    LAYOUT = Layout(
        url="https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
        folder="cifar-100-binary",
        label_bytes=2,
        splits={"train": ("train.bin",), "test": ("test.bin",)},
        class_names_file="fine_label_names.txt",
        classes=100,
    )


BUILDERS: Mapping[str, type[_Cifar]] = {"cifar10": Cifar10, "cifar100": Cifar100}
