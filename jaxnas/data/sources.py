"""Data sources by name: every one of them ends in a checked `Dataset`."""

import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from jaxnas.core.errors import UserError
from jaxnas.data.dataset import Dataset, make_dataset

ARRAYS = ("x_train", "y_train", "x_test", "y_test")


def load(name: str, path: str | None = None) -> Dataset:
    """Reads a dataset into memory; nothing is downloaded.

    name: `digits`, `npz`, or a set of tensorflow-datasets, `NAME[/CONFIG][:VERSION]`, with or without `tfds:` before
        it, as in `cifar10` and `tfds:mnist`.
    path: the file for `npz`; the folder of prepared sets for tensorflow-datasets (its own default where not given);
        not used by `digits`.

    Raises UserError for an unknown name, a missing or unreadable file, a set that is not prepared (naming the command
    that prepares it), and everything that `make_dataset` refuses.
    """
    if name in SOURCES:
        return SOURCES[name](path or None)
    from jaxnas.data import tfds_source  # the import of tensorflow-datasets is slow, and only its sets need it

    return tfds_source.load_prepared(name.removeprefix("tfds:"), path or None, others=tuple(SOURCES))


def digits(path: str | None = None) -> Dataset:
    """The 1,797 real 8x8 images of handwritten digits that scikit-learn carries (UCI optdigits, its test part).

    The values 0 ... 16 are scaled to 0 ... 255. The split is fixed and stratified: with the images listed class by
    class, in their original order within a class, every fifth one, from the first, is a test image: 1,437 for training
    and 360 for testing.
    """
    del path
    from sklearn.datasets import load_digits

    values, classes = load_digits(return_X_y=True)
    images = np.round(np.asarray(values) * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8)
    labels = np.asarray(classes)
    by_class = np.argsort(labels, kind="stable")
    held_out = np.zeros(len(labels), bool)
    held_out[by_class[::5]] = True
    return make_dataset("digits", images[~held_out], labels[~held_out], images[held_out], labels[held_out])


def npz(path: str | None = None) -> Dataset:
    """Reads a file written by `numpy.savez`: x_train, y_train, x_test, y_test and, if wished, class_names.

    Arrays are as `make_dataset` takes them. Pickled objects are refused.
    """
    if path is None:
        raise UserError("data.name=npz needs the file's name: data.path=FILE.npz.")
    arrays = _read_npz(Path(path).expanduser())
    missing = [each for each in ARRAYS if each not in arrays]
    if missing:
        raise UserError(
            f"{path} lacks {', '.join(missing)}: it must hold {', '.join(ARRAYS)}, but holds "
            f"{', '.join(sorted(arrays)) or 'nothing'}."
        )
    class_names = arrays.get("class_names", np.zeros(0, str))
    if class_names.ndim != 1 or class_names.dtype.kind not in "US":
        raise UserError(f"{path}: class_names must be a list of strings, not {class_names.dtype} {class_names.shape}.")
    try:
        names = class_names.astype(str).tolist()
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: class_names holds bytes that are not ASCII; store them as strings.") from error
    return make_dataset(path, *(arrays[each] for each in ARRAYS), class_names=names)._replace(name=Path(path).stem)


def _read_npz(path: Path) -> Mapping[str, np.ndarray]:
    if not path.is_file():
        what = "is a folder, not a file" if path.is_dir() else "does not exist"
        raise UserError(f"the data file {path} {what}; data.path must name an .npz file.")
    if not zipfile.is_zipfile(path):
        raise UserError(f"{path} is not an .npz file, or is cut off; write it with numpy.savez.")
    try:
        with np.load(path, allow_pickle=False) as content:
            read = {key: content[key] for key in content.files}
            return {key: value for key, value in read.items() if isinstance(value, np.ndarray)}
    # What numpy, zipfile and zlib raise for damaged arrays, and for pickled objects.
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise UserError(f"{path} cannot be read as an .npz file: {reason}.") from error


SOURCES: Mapping[str, Callable[[str | None], Dataset]] = {"digits": digits, "npz": npz}
"""The sources with a name of their own; any other name is looked for among the sets of tensorflow-datasets."""
