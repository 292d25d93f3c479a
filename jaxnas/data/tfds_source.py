"""Sets of tensorflow-datasets, read from array_record files without TensorFlow (Google, tensorflow.org/datasets)."""

import difflib
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core.constants import DATA_DIR as DEFAULT_FOLDER

from jaxnas.core.errors import UserError, unknown
from jaxnas.data.dataset import Dataset, make_dataset

OWN_BUILDERS = ("cifar10", "cifar100")  # what `jaxnas.data.prepare` prepares without TensorFlow
FORMAT = "array_record"  # the only format of tensorflow-datasets that is whole without TensorFlow


def load_prepared(name: str, path: str | None = None, others: Sequence[str] = ()) -> Dataset:
    """Reads a prepared set, `path/NAME[/CONFIG]/VERSION`, the newest version that can be read.

    name: `NAME[/CONFIG][:VERSION]`. path: the folder of all sets (default: that of tensorflow-datasets).
    others: names of other sources, to be suggested when `name` is not known.

    The images and labels are the set's supervised pair, or its features `image` and `label`. The splits are train and
    test, or validation where there is no test. Raises UserError where the set is unknown, not prepared or in another
    format, where it has no such features or splits, and where image sizes vary.
    """
    builder = open_prepared(name, sets_folder(path), others)
    splits = split_names(name, list(builder.info.splits))
    keys = feature_names(name, builder.info)
    (x_train, y_train), (x_test, y_test) = (_arrays(name, builder, split, keys) for split in splits)
    names = getattr(builder.info.features[keys[1]], "names", ())
    return make_dataset(name, x_train, y_train, x_test, y_test, class_names=names)


def sets_folder(path: str | None) -> Path:
    """The folder of all prepared sets: `path`, or that of tensorflow-datasets."""
    return Path(path).expanduser() if path else Path(DEFAULT_FOLDER)


def how_to_prepare(name: str, folder: Path) -> str:
    """The command that prepares a set once, as a clause for a message."""
    where = shlex.quote(str(folder))
    set_name = name.partition(":")[0]
    if set_name in OWN_BUILDERS:
        return f"run `python -m jaxnas.data.prepare {set_name} --path={where}` once"
    return f"run `tfds build {set_name} --file_format={FORMAT} --data_dir={where}` once, where TensorFlow is installed"


def check_known(name: str, folder: Path, others: Sequence[str] = ()) -> None:
    """Raises UserError with the nearest name unless `name` is a set that tensorflow-datasets or this package has."""
    known = {*tfds.list_builders(with_community_datasets=False), *OWN_BUILDERS}
    base = name.partition(":")[0].partition("/")[0]
    if base in known:
        return
    prepared = {each.parent.parent.name for each in folder.glob("*/*/dataset_info.json")} if folder.is_dir() else set()
    everything = {*known, *others, *prepared}
    # The hundreds of sets are searched for a near name, but not recited where none is near.
    near = difflib.get_close_matches(name, everything, n=1, cutoff=0.5)
    raise unknown("dataset", name, near or {*others, *prepared, *OWN_BUILDERS, "tfds:NAME"})


def open_prepared(name: str, folder: Path, others: Sequence[str] = ()) -> Any:
    """The builder of a prepared set under `folder`, of its newest version unless `name` gives one.

    Raises UserError where the set is unknown, not prepared, or prepared in another format.
    """
    set_name, _, version = name.partition(":")
    parent = folder / set_name if set_name and ".." not in Path(set_name).parts else folder / "-"
    found = [each.parent for each in parent.glob(f"{version or '*'}/dataset_info.json")]
    for each in sorted(found, key=_version_number, reverse=True):
        try:
            return tfds.builder_from_directory(each, file_format=FORMAT)
        except ValueError:
            continue  # in another format, or older than the features file
    if not found:
        check_known(name, folder, others)
    trouble = f"is not prepared in the format {FORMAT}" if found else "is not prepared"
    raise UserError(
        f"dataset {name!r} {trouble} under {folder}: {how_to_prepare(name, folder)}, or use data.name=npz with "
        "data.path=FILE.npz."
    )


def _version_number(folder: Path) -> tuple[int, ...]:
    return tuple(int(part) if part.isdigit() else -1 for part in folder.name.split("."))


def split_names(name: str, splits: Sequence[str]) -> tuple[str, str]:
    """Which of `splits` to train with and which to test with; validation stands in for test. Raises without a pair."""
    test = next((each for each in ("test", "validation") if each in splits), None)
    if "train" not in splits or test is None:
        raise UserError(
            f"dataset {name!r} needs a split train and a split test or validation, but has only: {', '.join(splits)}."
        )
    return "train", test


def feature_names(name: str, info: Any) -> tuple[str, str]:
    """The names of the features that hold the image and its label. Raises UserError for a set without them."""
    features = info.features
    available = list(features) if isinstance(features, tfds.features.FeaturesDict) else []
    for pair in (info.supervised_keys, ("image", "label")):
        if pair and len(pair) == 2 and all(isinstance(key, str) and key in available for key in pair):
            return pair[0], pair[1]
    raise UserError(
        f"dataset {name!r} is no image-classification set: it has no supervised pair and no features image and label, "
        f"but {', '.join(available) or 'none by name'}."
    )


def _arrays(name: str, builder: Any, split: str, keys: tuple[str, str]) -> tuple[np.ndarray, np.ndarray]:
    try:
        source = builder.as_data_source(split=split)
        examples = source.__getitems__(range(len(source)))
    # A damaged file ends in whatever the record reader, the parser or the image decoder raises.
    except Exception as error:
        reason = " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__
        raise UserError(
            f"dataset {name!r}: its split {split} cannot be read from {builder.data_dir}: {reason}."
        ) from error
    shapes = {np.shape(example[keys[0]]) for example in examples}
    if len(shapes) > 1:
        small, large = sorted(shapes)[0], sorted(shapes)[-1]
        raise UserError(
            f"dataset {name!r}: the images of its split {split} vary in size, from {small} to {large}; resize them all "
            "to one size and use data.name=npz."
        )
    images = np.asarray([example[keys[0]] for example in examples])
    labels = np.asarray([example[keys[1]] for example in examples])
    return (images, labels) if examples else (np.zeros((0, 0, 0, 0), np.uint8), np.zeros(0, np.int32))
