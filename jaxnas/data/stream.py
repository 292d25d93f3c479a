"""Image sets that do not fit into memory: prepared sets of tensorflow-datasets, streamed by grain (Google).

What a step sees is a pure function of (seed, step): a resumed run sees exactly what the uninterrupted one would, with
any number of workers, and the parts of several processes, one after another, are the batch of one process.
"""

import atexit
import resource
import weakref
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import flags

from jaxnas.core.errors import UserError
from jaxnas.data.batches import steps_per_epoch
from jaxnas.data.sources import SOURCES
from jaxnas.data.stream_images import Records, start_worker, test_arrays, train_arrays

Arrays = tuple[np.ndarray, ...]


class ImageStream(NamedTuple):
    """A checked set to be streamed as uint8 [batch, image_size, image_size, 3] and int32 labels [batch].

    class_names: one name for every class, in the order of the labels. train, test: the examples of all processes.
    """

    name: str
    class_names: tuple[str, ...]
    image_size: int
    train: Records
    test: Records
    stamp: str  # of its version and of the lengths of its files: another stamp, other images

    @property
    def train_count(self) -> int:
        """Training examples over all processes."""
        return len(self.train.source)

    @property
    def test_count(self) -> int:
        """Test examples over all processes."""
        return len(self.test.source)


def open_stream(name: str, path: str | None = None, *, image_size: int) -> ImageStream:
    """Opens a prepared set, `path/NAME[/CONFIG]/VERSION`, and checks all of its files; decodes nothing.

    name: `NAME[/CONFIG][:VERSION]`, with or without `tfds:` before it. path: the folder of all sets (default: that of
    tensorflow-datasets). Images are the features `image` or of the supervised pair, encoded or uint8 arrays, of any
    size. The splits are train and test, or validation where there is no test or it has no labels, as in ImageNet.

    Raises UserError where grain is missing, the set is unknown, not prepared or in another format, has no such features
    or splits, and where a file is missing, damaged or holds another number of records than the set says.
    """
    from jaxnas.data import tfds_source  # the import of tensorflow-datasets is slow

    _grain()
    if image_size < 1:
        raise UserError(f"the image size must be at least 1 pixel, not {image_size}.")
    name = name.removeprefix("tfds:")
    if name in SOURCES:
        raise UserError(f"data.name={name} is read into memory; only sets of tensorflow-datasets can be streamed.")
    builder = tfds_source.open_prepared(name, tfds_source.sets_folder(path), others=tuple(SOURCES))
    splits = tfds_source.split_names(name, list(builder.info.splits))
    _allow_open_files(name, sum(builder.info.splits[split].num_shards for split in splits))
    train, test = (_open_split(name, builder, split) for split in splits)
    if "validation" in builder.info.splits and test.source[0][test.label] < 0:
        test = _open_split(name, builder, "validation")
    class_names = tuple(builder.info.features[train.label].names)
    lengths = {split: list(info.shard_lengths) for split, info in sorted(builder.info.splits.items())}
    sizes = {split: info.num_bytes for split, info in sorted(builder.info.splits.items())}
    return ImageStream(name, class_names, image_size, train, test, f"{builder.info.full_name} {lengths} {sizes}")


def train_batches(
    stream: ImageStream,
    *,
    seed: int,
    batch_size: int,
    first_step: int = 0,
    workers: int = 0,
    process: int = 0,
    processes: int = 1,
) -> Generator[Arrays]:
    """Yields images and labels of step first_step, first_step + 1, ... without end, cropped and flipped at random.

    seed: in 0 ... 2**32 - 1. batch_size: examples of a step over all processes; this is the `process`-th of them and
    gets its part: uint8 [batch_size / processes, size, size, 3] and int32 [batch_size / processes]. An epoch is
    train_count // batch_size steps, in an order of its own.

    workers: processes that decode, each making whole batches ahead, for which it needs the memory of about five; with
    0 this process decodes when a batch is asked for. They end when the iterator is closed or deleted, or this process
    ends.

    Raises UserError, before the first batch, where batch_size is larger than the set or does not divide by processes;
    with a batch, for a record that cannot be decoded, and for a worker that was killed.
    """
    steps_per_epoch(stream.train_count, batch_size)  # for its check
    block = _block(batch_size, process, processes)
    grain = _grain()
    order = grain.MapDataset.range(stream.train_count).seed(seed).shuffle().batch(batch_size, drop_remainder=True)
    load = partial(train_arrays, stream.train, stream.image_size, seed, block)
    return _run(stream.name, order.repeat().map_with_index(load)[first_step:], workers)


def test_batches(
    stream: ImageStream, *, batch_size: int, workers: int = 0, process: int = 0, processes: int = 1
) -> Generator[Arrays]:
    """Yields images, labels and mask, float32, of the test examples in order, each of them exactly once.

    Shapes and errors are those of `train_batches`, but batch_size may be larger than the set: the last batch is filled
    with zeros, where the mask is 0.
    """
    block = _block(batch_size, process, processes)
    grain = _grain()
    steps = -(-stream.test_count // batch_size)
    order = grain.MapDataset.range(steps * batch_size).batch(batch_size)
    return _run(stream.name, order.map(partial(test_arrays, stream.test, stream.image_size, block)), workers)


def _grain() -> Any:
    try:
        import grain
    except ImportError as error:
        raise UserError("streaming needs the package grain: install `jaxnas[stream]`.") from error
    if not flags.FLAGS.is_parsed():  # grain asks its flags, also in programs that have none
        flags.FLAGS.mark_as_parsed()
    return grain


def _block(batch_size: int, process: int, processes: int) -> slice:
    """Which part of every batch belongs to a process."""
    if batch_size < 1:
        raise UserError(f"batch_size must be at least 1, not {batch_size}.")
    if batch_size % processes:
        nearest = max(1, round(batch_size / processes)) * processes
        raise UserError(
            f"batch_size {batch_size} cannot be divided between {processes} processes; the nearest that can is "
            f"{nearest}."
        )
    part = batch_size // processes
    return slice(process * part, (process + 1) * part)


def _allow_open_files(name: str, count: int) -> None:
    """Lets this process and its workers keep `count` files open; often 1,024 are allowed, as many as ImageNet has."""
    needed = count + 256  # for everything else
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise UserError(
            f"dataset {name!r} has {count} files, but this system lets a process open {hard} only; let it open "
            f"{needed} (`ulimit -n`), or prepare the set with fewer files."
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def _open_split(name: str, builder: Any, split: str) -> Records:
    import tensorflow_datasets as tfds

    from jaxnas.data.tfds_source import feature_names

    image, label = feature_names(name, builder.info)
    features = builder.info.features
    pixels, classes = features[image], features[label]
    channels = pixels.shape[2:] if pixels.shape and len(pixels.shape) in (2, 3) else (0,)
    if pixels.np_dtype != np.uint8 or channels not in ((), (None,), (1,), (3,), (4,)):
        raise UserError(
            f"dataset {name!r}: its feature {image} must hold uint8 images of 1, 3 or 4 channels, [height, width, "
            f"channels], not {np.dtype(pixels.np_dtype).name} {pixels.shape}."
        )
    if not isinstance(classes, tfds.features.ClassLabel) or not classes.num_classes or classes.num_classes < 2:
        raise UserError(f"dataset {name!r}: its feature {label} must be a ClassLabel of at least two classes.")
    _check_files(name, builder.info.splits[split])
    encoded = isinstance(pixels, tfds.features.Image)
    decoders = {image: tfds.decode.SkipDecoding()} if encoded else None
    source = builder.as_data_source(split=split, decoders=decoders)
    return Records(name, split, source, image, label, classes.num_classes)


def _check_files(name: str, split: Any) -> None:
    """Raises UserError, naming the file, unless every file of a split holds the records that the set says."""
    if not split.num_examples:
        raise UserError(f"dataset {name!r}: its split {split.name} holds no examples.")
    with ThreadPoolExecutor(16) as threads:  # the files may be far away
        for trouble in threads.map(_trouble, split.filepaths, split.shard_lengths):
            if trouble:
                raise UserError(f"dataset {name!r}: the file {trouble}; copy it or prepare the set again.")


def _trouble(file: Path, count: int) -> str | None:
    """What is wrong with a file that should hold `count` records, if anything is."""
    from array_record.python.array_record_module import ArrayRecordReader

    if not file.is_file():
        return f"{file} of its split is missing"
    try:
        reader = ArrayRecordReader(str(file))
        found = reader.num_records()
        if found == count and count:
            reader.read([count - 1])
        reader.close()
    # A file that is cut off or overwritten ends in whatever the record reader raises.
    except Exception as error:
        return f"{file} is damaged or cut off ({' '.join(str(error).split())[:100]})"
    return None if found == count else f"{file} holds {found} records in place of {count}"


def _run(name: str, batches: Any, workers: int) -> Generator[Arrays]:
    """Iterates over a MapDataset of batches, made in as many processes as `workers`; 0: in this one."""
    iterator = _iterate(name, batches, workers)
    # Workers can be ended in good order only before the interpreter takes itself apart.
    atexit.register(_close, weakref.ref(iterator))
    return iterator


def _close(reference: "weakref.ref[Generator[Arrays]]") -> None:
    iterator = reference()
    if iterator is not None:
        with suppress(ValueError):  # a thread is waiting for a batch
            iterator.close()


def _iterate(name: str, batches: Any, workers: int) -> Generator[Arrays]:
    grain = _grain()
    options = grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)  # the default keeps 500 batches
    dataset = batches.to_iter_dataset(options)
    processes = grain.MultiprocessingOptions(num_workers=workers)
    iterator = iter(dataset.mp_prefetch(processes, worker_init_fn=start_worker))
    try:
        for batch in iterator:
            # A copy of what workers made gives the memory that is shared with them back at once.
            yield tuple(np.array(each, copy=workers > 0) for each in batch)
    except UserError as error:
        raise UserError(str(error)) from None  # without grain's notes and the worker's traceback
    except RuntimeError as error:
        if "exit code" not in str(error):
            raise
        code = str(error).partition("exit code")[2].split(".")[0].strip()
        raise UserError(
            f"dataset {name!r}: a worker process ended with exit code {code}, killed or out of memory (batches wait in "
            "/dev/shm); use fewer workers or a smaller batch."
        ) from error
    finally:
        iterator.close()
