"""Sets of tensorflow-datasets: written in their format into a temporary folder and read back, without TensorFlow."""

import sys

import numpy as np
import PIL.Image
import pytest
import tensorflow_datasets as tfds

from jaxnas.core.errors import UserError
from jaxnas.data.sources import load
from tests.data.prepared_set import write

RNG = np.random.default_rng(0)
COUNTS = {"train": 7, "test": 4}
TENSOR = tfds.features.Tensor(shape=(4, 5, 3), dtype=np.uint8)
LABEL = tfds.features.ClassLabel(names=["cat", "dog", "hen"])


def pixels(count: int, shape: tuple[int, ...] = (4, 5, 3)) -> np.ndarray:
    return RNG.integers(0, 256, (count, *shape), np.uint8)


def labelled(images: np.ndarray) -> list[tuple[np.ndarray, int]]:
    return [(image, number % 3) for number, image in enumerate(images)]


def rows(images: np.ndarray, labels: np.ndarray) -> list[tuple[int, ...]]:
    return sorted((int(label), *image.ravel().tolist()) for image, label in zip(images, labels, strict=True))


@pytest.mark.parametrize("name", ["tiny", "tfds:tiny", "tiny:1.0.0"])
def test_reads_every_example_of_both_splits(tmp_path, name):
    images = {split: pixels(count) for split, count in COUNTS.items()}
    write(tmp_path, {"image": TENSOR, "label": LABEL}, {split: labelled(each) for split, each in images.items()})
    data = load(name, str(tmp_path))
    assert rows(data.x_train, data.y_train) == rows(images["train"], np.arange(7) % 3)
    assert rows(data.x_test, data.y_test) == rows(images["test"], np.arange(4) % 3)
    assert data.class_names == ("cat", "dog", "hen")
    assert data.x_train.dtype == np.uint8 and data.y_train.dtype == np.int32
    assert "tensorflow" not in sys.modules


def test_encoded_images_under_other_names_are_found_by_the_supervised_pair(tmp_path):
    images = {split: pixels(count) for split, count in COUNTS.items()}
    features = {
        "id": tfds.features.Scalar(np.int64),
        "picture": tfds.features.Image(shape=(None, None, 3), encoding_format="png"),
        "kind": LABEL,
    }
    splits = {
        split: [(key, PIL.Image.fromarray(image), label) for key, (image, label) in enumerate(labelled(each))]
        for split, each in images.items()
    }
    write(tmp_path, features, splits, supervised=("picture", "kind"))
    data = load("tiny", str(tmp_path))
    assert rows(data.x_train, data.y_train) == rows(images["train"], np.arange(7) % 3)


def test_validation_stands_in_for_a_missing_test_split(tmp_path):
    images = pixels(3)
    splits = {"train": labelled(pixels(5)), "validation": labelled(images)}
    write(tmp_path, {"image": TENSOR, "label": LABEL}, splits)
    data = load("tiny", str(tmp_path))
    assert rows(data.x_test, data.y_test) == rows(images, np.arange(3))


def test_the_newest_version_is_read_unless_one_is_named(tmp_path):
    for number, version in enumerate(["9.0.0", "10.0.0"]):
        images = np.full((3, 4, 5, 3), number, np.uint8)
        splits = {"train": labelled(images), "test": labelled(images)}
        write(tmp_path, {"image": TENSOR, "label": LABEL}, splits, version=version)
    assert load("tiny", str(tmp_path)).x_train.max() == 1
    assert load("tiny:9.0.0", str(tmp_path)).x_train.max() == 0


PAIR = {"image": TENSOR, "label": LABEL}
ANY_SIZE = {"image": tfds.features.Image(shape=(None, None, 3), encoding_format="png"), "label": LABEL}
TWO_SIZES = [(PIL.Image.fromarray(pixels(1, shape)[0]), 0) for shape in ((4, 5, 3), (6, 5, 3))]
FLOATS = {"image": tfds.features.Tensor(shape=(2, 2, 1), dtype=np.float32), "label": LABEL}
UNUSABLE = {
    "no test": (PAIR, {"train": labelled(pixels(3))}, "has only: train"),
    "no train": (PAIR, {"test": labelled(pixels(3))}, "has only: test"),
    "no label": (
        {"image": TENSOR},
        {split: [(pixels(1)[0],)] for split in COUNTS},
        "no image-classification set.*image",
    ),
    "sizes vary": (ANY_SIZE, dict.fromkeys(COUNTS, TWO_SIZES), r"vary in size, from \(4, 5, 3\) to \(6, 5, 3\)"),
    "floats": (FLOATS, {split: [(np.zeros((2, 2, 1), np.float32), 0)] for split in COUNTS}, "x_train must be uint8"),
}


@pytest.mark.parametrize(("features", "splits", "message"), UNUSABLE.values(), ids=UNUSABLE.keys())
def test_unusable_sets_are_refused(tmp_path, features, splits, message):
    write(tmp_path, features, splits)
    with pytest.raises(UserError, match=message):
        load("tiny", str(tmp_path))


def test_a_damaged_file_is_refused(tmp_path):
    write(tmp_path, PAIR, {split: labelled(pixels(count)) for split, count in COUNTS.items()})
    (file,) = tmp_path.glob("tiny/1.0.0/*train*")
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(UserError, match="split train cannot be read"):
        load("tiny", str(tmp_path))


def test_another_file_format_is_refused(tmp_path):
    write(tmp_path, PAIR, {split: labelled(pixels(count)) for split, count in COUNTS.items()})
    info = tmp_path / "tiny" / "1.0.0" / "dataset_info.json"
    info.write_text(info.read_text().replace("array_record", "tfrecord"))
    with pytest.raises(UserError, match="not prepared in the format array_record"):
        load("tiny", str(tmp_path))


def test_a_prepared_set_is_suggested_for_a_misspelt_name(tmp_path):
    write(tmp_path, PAIR, {split: labelled(pixels(count)) for split, count in COUNTS.items()})
    with pytest.raises(UserError, match="did you mean 'tiny'"):
        load("tinny", str(tmp_path))


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("cifar10", "python -m jaxnas.data.prepare cifar10 --path="),
        ("tfds:cifar100", "python -m jaxnas.data.prepare cifar100 --path="),
        ("mnist", "tfds build mnist --file_format=array_record --data_dir="),
    ],
)
def test_a_set_that_is_not_prepared_names_the_command(tmp_path, name, command):
    with pytest.raises(UserError, match="not prepared") as caught:
        load(name, str(tmp_path / "none"))
    assert f"`{command}{tmp_path / 'none'}`" in str(caught.value)
    assert "data.name=npz with data.path=FILE.npz" in str(caught.value)
    assert not (tmp_path / "none").exists()
