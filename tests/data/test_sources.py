"""Data sources by name, and the one-sentence errors of everything a user can get wrong with them."""

import io

import numpy as np
import pytest

from jaxnas.core.errors import UserError
from jaxnas.data.sources import Dataset, load

RNG = np.random.default_rng(0)


def good() -> dict[str, np.ndarray]:
    return {
        "x_train": RNG.integers(0, 256, (6, 4, 5, 3), np.uint8),
        "y_train": np.array([0, 1, 2, 0, 1, 2]),
        "x_test": RNG.integers(0, 256, (3, 4, 5, 3), np.uint8),
        "y_test": np.array([2, 1, 0]),
    }


def single_array() -> bytes:
    file = io.BytesIO()
    np.save(file, np.zeros(3))
    return file.getvalue()


def from_npz(tmp_path, **changes) -> Dataset:
    path = tmp_path / "data.npz"
    np.savez(path, **{key: value for key, value in {**good(), **changes}.items() if value is not None})
    return load("npz", str(path))


def test_digits_are_the_bundled_images_split_once_and_stratified():
    from sklearn.datasets import load_digits

    data = load("digits")
    assert data.x_train.shape == (1437, 8, 8, 1) and data.x_test.shape == (360, 8, 8, 1)
    assert data.x_train.dtype == np.uint8 and data.y_train.dtype == np.int32
    assert data.class_names == tuple("0123456789")
    images, labels = load_digits(return_X_y=True)
    whole = sorted(
        (*image, label) for image, label in zip(np.round(images * 255 / 16).astype(int), labels, strict=True)
    )
    parts = [(data.x_train, data.y_train), (data.x_test, data.y_test)]
    assert sorted((*x.ravel(), y) for xs, ys in parts for x, y in zip(xs, ys, strict=True)) == whole
    share = np.bincount(data.y_test) / np.bincount(labels)
    assert np.all(np.abs(share - 0.2) < 1 / np.bincount(labels).min())
    again = load("digits", "")
    assert all(np.array_equal(one, two) for one, two in zip(data, again, strict=True))


def test_npz_comes_back_as_written(tmp_path):
    arrays = good()
    data = from_npz(tmp_path, **arrays)
    for field in ("x_train", "y_train", "x_test", "y_test"):
        assert np.array_equal(getattr(data, field), arrays[field])
    assert data.y_train.dtype == data.y_test.dtype == np.int32
    assert data.class_names == ("0", "1", "2")
    assert data.name == "data"


def test_grey_images_get_a_channel_axis(tmp_path):
    arrays = {field: good()[field][..., 0] for field in ("x_train", "x_test")}
    data = from_npz(tmp_path, **arrays)
    assert data.x_train.shape == (6, 4, 5, 1)
    assert np.array_equal(data.x_train[..., 0], arrays["x_train"])


def test_class_names_may_cover_classes_without_examples(tmp_path):
    names = np.array(["cat", "dog", "hen", "ox"])
    assert from_npz(tmp_path, class_names=names).class_names == ("cat", "dog", "hen", "ox")


BAD_ARRAYS = {
    "lacking": ({"y_test": None}, "lacks y_test"),
    "float images": ({"x_train": np.zeros((6, 4, 5, 3))}, "x_train must be uint8 .* not float64"),
    "flat images": ({"x_train": np.zeros((6, 60), np.uint8)}, r"x_train must be uint8 .* shape is \(6, 60\)"),
    "no images": ({"x_test": np.zeros((0, 4, 5, 3), np.uint8), "y_test": np.zeros(0, int)}, "x_test is empty"),
    "channels first": ({"x_train": np.zeros((6, 3, 8, 8), np.uint8)}, "channels first"),
    "other size": ({"x_test": np.zeros((3, 5, 4, 3), np.uint8)}, r"\(4, 5, 3\) but those of x_test \(5, 4, 3\)"),
    "other channels": ({"x_test": np.zeros((3, 4, 5, 1), np.uint8)}, r"\(4, 5, 3\) but those of x_test \(4, 5, 1\)"),
    "fewer labels": ({"y_train": np.array([0, 1, 2])}, "y_train holds 3 labels for 6 images"),
    "more labels": ({"y_test": np.array([0, 1, 2, 0])}, "y_test holds 4 labels for 3 images"),
    "float labels": ({"y_train": np.zeros(6)}, "y_train must hold integer labels .* not float64"),
    "boolean labels": ({"y_test": np.zeros(3, bool)}, "y_test must hold integer labels .* not bool"),
    "one-hot labels": ({"y_train": np.eye(6, dtype=int)}, r"y_train must hold one label .* \(6, 6\)"),
    "negative label": ({"y_test": np.array([0, -1, 2])}, "y_test holds the negative label -1"),
    "test label too high": ({"y_test": np.array([0, 3, 2])}, r"y_test holds the label 3, .* 0 \.\.\. 2"),
    "stray training label": ({"y_train": np.array([0, 1, 2, 0, 1, 99])}, "y_train holds the label 99 .* out of range"),
    "label without a name": ({"class_names": np.array(["a", "b"])}, r"y_train holds the label 2, .* 0 \.\.\. 1"),
    "numbers as class names": ({"class_names": np.arange(3)}, "class_names must be a list of strings"),
    "pickled objects": ({"y_train": np.array([0, "one", 2, 0, 1, 2], object)}, "allow_pickle=False"),
}


@pytest.mark.parametrize(("changes", "message"), BAD_ARRAYS.values(), ids=BAD_ARRAYS.keys())
def test_bad_arrays_are_refused(tmp_path, changes, message):
    with pytest.raises(UserError, match=message) as caught:
        from_npz(tmp_path, **changes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: None, "does not exist"),
        (lambda path: path.mkdir(), "is a folder"),
        (lambda path: path.write_text("some text"), "is not an .npz file"),
        (lambda path: path.write_bytes(b""), "is not an .npz file"),
        (lambda path: path.write_bytes(single_array()), "is not an .npz file"),
    ],
    ids=["missing", "folder", "text", "empty", "npy"],
)
def test_files_that_are_no_npz_are_refused(tmp_path, write, message):
    write(tmp_path / "data.npz")
    with pytest.raises(UserError, match=message):
        load("npz", str(tmp_path / "data.npz"))


@pytest.mark.parametrize("compress", [np.savez, np.savez_compressed])
def test_damaged_files_are_refused(tmp_path, compress):
    path = tmp_path / "data.npz"
    compress(path, **good())
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match="cut off"):
        load("npz", str(path))
    path.write_bytes(content[:150] + bytes(80) + content[230:])
    with pytest.raises(UserError, match="cannot be read"):
        load("npz", str(path))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("digit", "did you mean 'digits'"),
        ("npy", "did you mean 'npz'"),
        ("cifar-10", "did you mean 'cifar10'"),
        ("tfds:minst", "did you mean 'mnist'"),
        ("", "known are: cifar10, cifar100, digits, npz"),
        ("qqqqqqqq", "known are: cifar10, cifar100, digits, npz"),
        ("../digits", "did you mean 'digits'"),
    ],
)
def test_unknown_names_get_the_nearest_one(tmp_path, name, message):
    with pytest.raises(UserError, match=message):
        load(name, str(tmp_path))


def test_npz_needs_a_path():
    with pytest.raises(UserError, match=r"data\.path=FILE\.npz"):
        load("npz")
