"""What a stand-alone network is trained and tested on: a set in memory, or one that is streamed."""

import hashlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxnas.core.errors import UserError
from jaxnas.core.types import PyTree
from jaxnas.data import batches
from jaxnas.data.augment import Augmentation, check_settings, statistics
from jaxnas.data.dataset import Dataset
from jaxnas.data.sources import load
from jaxnas.data.stream import ImageStream, open_stream, test_batches, train_batches
from jaxnas.data.stream_images import BORDER
from jaxnas.evaluate.accuracy import accuracy_on, accuracy_on_batches, answers
from jaxnas.evaluate.training_data import TrainingData
from jaxnas.limits import Config
from jaxnas.networks.family import Images
from jaxnas.plan import fingerprint

# Mean and standard deviation of each channel of ImageNet, by which streamed images are normalised.
IMAGENET_STATISTICS = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class EvaluationData(NamedTuple):
    """A checked set, and how it is fed.

    seed: of the order of streamed images and of the images held out, the same for all seeds of a program.
    """

    source: Dataset | ImageStream
    augmentation: Augmentation
    image_shape: tuple[int, int, int]
    batch_size: int
    workers: int
    seed: int

    @property
    def streamed(self) -> bool:
        """Whether a step's images are fed to it, rather than standing on the device."""
        return isinstance(self.source, ImageStream)

    @property
    def border(self) -> float:
        """How much larger than what a network reads test images are before their centre is taken."""
        return BORDER if self.streamed else 1.0

    def training(self, teacher: PyTree, fraction: float) -> tuple[int, TrainingData]:
        """How many images there are to train on, and these; of a streamed set the shapes of what a step is fed.

        teacher: the variables of one, () without. fraction: of the training split, held out to validate on.
        """
        if isinstance(self.source, ImageStream):
            shapes = ((jnp.uint8, self.image_shape), (jnp.int32, ()))
            batch: list[Any] = [jax.ShapeDtypeStruct((self.batch_size, *shape), dtype) for dtype, shape in shapes]
            return self.source.train_count, TrainingData(batch[0], batch[1], teacher)
        images, labels = self.source.x_train, self.source.y_train
        if not fraction:
            return len(labels), TrainingData(*jax.device_put((images, labels)), teacher=teacher)
        held, kept = map(np.asarray, batches.split_rows(jax.random.key(self.seed), len(labels), fraction))
        trained, selected = jax.device_put(((images[kept], labels[kept]), (images[held], labels[held])))
        return len(kept), TrainingData(*trained, teacher=teacher, held_out=selected)

    def feed(self, teacher: PyTree, first_step: int) -> Iterator[TrainingData]:
        """Batches of a streamed set, from one step on."""
        assert isinstance(self.source, ImageStream)
        teacher = jax.device_put(teacher)
        fed = train_batches(
            self.source, seed=self.seed, batch_size=self.batch_size, first_step=first_step, workers=self.workers
        )
        for images, labels in fed:
            yield TrainingData(jnp.asarray(images), jnp.asarray(labels), teacher)

    def accuracy(self, network: nn.Module, variables: PyTree, top: int) -> float:
        """Share of images of the test split whose label is among the `top` likeliest classes."""
        answer, augmentation = answers(network), self.augmentation
        if isinstance(self.source, ImageStream):
            fed = test_batches(self.source, batch_size=self.batch_size, workers=self.workers)
            return accuracy_on_batches(answer, variables, fed, augmentation=augmentation, top=top)
        data = TrainingData(*jax.device_put((self.source.x_test, self.source.y_test)))
        right = accuracy_on(answer, variables, data, batch_size=self.batch_size, augmentation=augmentation, top=top)
        return float(right)

    def digest(self) -> str:
        """SHA-256 of all images and labels; of what a streamed set says of itself, since it is too large to be read."""
        if isinstance(self.source, Dataset):
            return fingerprint(self.source)
        return hashlib.sha256(self.source.stamp.encode()).hexdigest()


def evaluation_data(config: Config, images: Images) -> EvaluationData:
    """Opens and checks the data; raises UserError where they do not fit the config's images."""
    source = _opened(config)
    _check(source, images)
    mean, std = statistics(source.x_train) if isinstance(source, Dataset) else IMAGENET_STATISTICS
    augmentation = Augmentation(config.data.crop_padding, config.data.flip, config.data.cutout, mean, std)
    check_settings(augmentation, images.channels)
    size, workers = config.recipe.batch_size, config.data.workers
    return EvaluationData(source, augmentation, images.shape, size, workers, config.seed)


def _opened(config: Config) -> Dataset | ImageStream:
    """The data: in memory, or checked and ready to be streamed."""
    name, path = config.data.name, config.data.path or None
    if not config.data.streamed:
        return load(name, path)
    for field, off in (("crop_padding", 0), ("flip", False), ("validation_fraction", 0.0)):
        if config.data[field] != off:
            raise UserError(
                f"data.{field} is {config.data[field]}, but streamed images are cropped and mirrored as they are "
                f"decoded, and none are held out; set it to {off}."
            )
    if config.selection.epochs:
        raise UserError("selection.epochs needs held-out images, which streamed data have not; set it to 0.")
    return open_stream(name, path, image_size=config.images.size)


def _check(dataset: Dataset | ImageStream, images: Images) -> None:
    shape = dataset.x_train.shape[1:] if isinstance(dataset, Dataset) else (*[dataset.image_size] * 2, 3)
    if shape != images.shape:
        raise UserError(
            f"{dataset.name} has images of {'x'.join(map(str, shape))}, but config.images says "
            f"{'x'.join(map(str, images.shape))}; set images.size and images.channels to those of the data."
        )
    if len(dataset.class_names) != images.classes:
        raise UserError(
            f"{dataset.name} has {len(dataset.class_names)} classes, but images.classes is {images.classes}."
        )
