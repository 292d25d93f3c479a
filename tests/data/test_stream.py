"""Streams of a small set on disk: what a step sees, however it is reached, and what is refused before the first one."""

import io
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import tensorflow_datasets as tfds

from jaxnas.core.errors import UserError
from jaxnas.data import stream
from tests.data.prepared_set import write

ROOT = Path(__file__).resolve().parents[2]
COUNTS = {"train": 23, "test": 9}
SIDE, BATCH = 8, 4
STEPS = COUNTS["train"] // BATCH
LABEL = tfds.features.ClassLabel(names=["cat", "dog", "hen"])
ENCODED = {"image": tfds.features.Image(shape=(None, None, 3)), "label": LABEL}
TENSOR = {"image": tfds.features.Tensor(shape=(4, 5, 3), dtype=np.uint8), "label": LABEL}


def picture(number: int) -> io.BytesIO:
    """An image of one colour, 10 * number, of a size, mode and encoding of its own."""
    image = PIL.Image.new("RGB", (10 + number, 30 - number), (10 * number,) * 3)
    mode, encoding = [("RGB", "PNG"), ("L", "PNG"), ("RGBA", "PNG"), ("RGB", "JPEG"), ("CMYK", "JPEG")][number % 5]
    file = io.BytesIO()
    image.convert(mode).save(file, encoding, **({"quality": 100} if encoding == "JPEG" else {}))
    file.seek(0)
    return file


def numbers(images: np.ndarray) -> list[int]:
    """Which pictures a batch holds. A JPEG moves a colour by one or two."""
    spread = images.reshape(len(images), -1).astype(int)
    assert (spread.max(axis=1) - spread.min(axis=1)).max(initial=0) <= 4
    return np.rint(spread.mean(axis=1) / 10).astype(int).tolist()


def prepare(folder: Path, features=ENCODED, splits=None, **settings) -> str:
    """Writes a set of pictures, unless other splits are given, into a folder; returns its name."""
    pictures = {split: [(picture(number), number % 3) for number in range(count)] for split, count in COUNTS.items()}
    write(folder, features, splits or pictures, **settings)
    return str(folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("temporary")))
        yield prepare(tmp_path_factory.mktemp("sets"), shards=3)


@pytest.fixture(scope="module")
def pictures(folder):
    return stream.open_stream("tiny", folder, image_size=SIDE)


def batches(pictures, count: int | None = None, **settings) -> list[tuple[np.ndarray, ...]]:
    """The first `count` training batches."""
    iterator = stream.train_batches(pictures, **{"seed": 0, "batch_size": BATCH} | settings)
    found = list(islice(iterator, count))
    iterator.close()
    return found


def equal(first: list, second: list) -> bool:
    pairs = [pair for one, two in zip(first, second, strict=True) for pair in zip(one, two, strict=True)]
    return all(np.array_equal(one, two) and one.dtype == two.dtype for one, two in pairs)


@pytest.fixture(scope="module")
def two_epochs(pictures):
    return batches(pictures, 2 * STEPS)


def test_a_stream_knows_its_set(folder, pictures, two_epochs):
    assert len(list(Path(folder, "tiny", "1.0.0").glob("*train*"))) == 3
    assert (pictures.train_count, pictures.test_count) == (23, 9)
    assert pictures.class_names == ("cat", "dog", "hen") and pictures.image_size == SIDE
    images, labels = two_epochs[0]
    assert images.shape == (BATCH, SIDE, SIDE, 3) and images.dtype == np.uint8
    assert labels.shape == (BATCH,) and labels.dtype == np.int32


@pytest.mark.parametrize("first_step", range(1, 2 * STEPS))
def test_a_resumed_stream_goes_on_bit_for_bit(pictures, two_epochs, first_step):
    rest = batches(pictures, 2 * STEPS - first_step, first_step=first_step)
    assert equal(rest, two_epochs[first_step:])


def test_every_epoch_is_an_order_of_its_own_without_repetition(two_epochs):
    for images, labels in two_epochs:
        assert [number % 3 for number in numbers(images)] == labels.tolist()
    order = [number for images, _ in two_epochs for number in numbers(images)]
    epochs = order[: STEPS * BATCH], order[STEPS * BATCH :]
    assert all(len(set(epoch)) == STEPS * BATCH for epoch in epochs)
    assert epochs[0] != epochs[1]


def test_whole_epochs_are_permutations_and_seeds_do_not_share_them(pictures):
    orders = []
    for seed in (0, 1):
        for images, _ in batches(pictures, 2, seed=seed, batch_size=23):
            assert sorted(numbers(images)) == list(range(23))
            orders.append(tuple(numbers(images)))
    assert len(set(orders)) == 4


@pytest.mark.parametrize("processes", [2, 4])
def test_the_parts_of_processes_make_up_the_batch_of_one(pictures, two_epochs, processes):
    parts = [batches(pictures, 2 * STEPS, process=process, processes=processes) for process in range(processes)]
    together = [tuple(map(np.concatenate, zip(*each, strict=True))) for each in zip(*parts, strict=True)]
    assert equal(together, two_epochs)


@pytest.mark.parametrize(("batch_size", "processes"), [(4, 1), (4, 2), (9, 1), (12, 4)])
def test_test_batches_hold_every_example_once(pictures, batch_size, processes):
    parts = [
        list(stream.test_batches(pictures, batch_size=batch_size, process=process, processes=processes))
        for process in range(processes)
    ]
    together = [tuple(map(np.concatenate, zip(*each, strict=True))) for each in zip(*parts, strict=True)]
    assert len(together) == -(-9 // batch_size)
    found = []
    for images, labels, mask in together:
        assert images.shape == (batch_size, SIDE, SIDE, 3) and mask.dtype == np.float32 and labels.dtype == np.int32
        assert not images[mask == 0].any() and set(mask.tolist()) <= {0.0, 1.0}
        assert [number % 3 for number in numbers(images[mask == 1])] == labels[mask == 1].tolist()
        found += numbers(images[mask == 1])
    assert sorted(found) == list(range(9))


def test_workers_make_the_same_batches_and_end_with_the_iterator(pictures, two_epochs):
    iterator = stream.train_batches(pictures, seed=0, batch_size=BATCH, first_step=3, workers=2)
    assert equal(list(islice(iterator, 5)), two_epochs[3:8])
    assert len(multiprocessing.active_children()) == 2
    iterator.close()
    assert multiprocessing.active_children() == []


def test_a_killed_worker_and_a_bad_record_end_in_one_sentence(pictures):
    iterator = stream.train_batches(pictures, seed=0, batch_size=BATCH, workers=1)
    next(iterator)
    (worker,) = multiprocessing.active_children()
    assert worker.pid
    os.kill(worker.pid, signal.SIGTERM)  # sent to the whole group, it is the parent's to answer
    next(iterator)
    os.kill(worker.pid, signal.SIGKILL)
    with pytest.raises(UserError, match="dataset 'tiny': a worker process ended with exit code -9"):
        list(islice(iterator, 50))
    bad = pictures.train._replace(source=[{"image": b"no image", "label": 0}])
    with pytest.raises(UserError) as caught:
        batches(pictures._replace(train=bad), 1, batch_size=1, workers=1)
    assert str(caught.value).startswith(
        "dataset 'tiny': record 0 of its split train cannot be decoded: cannot identify"
    )
    assert not getattr(caught.value, "__notes__", []) and multiprocessing.active_children() == []


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


ORPHANS = """
import multiprocessing, sys, time
from jaxnas.data import stream
if __name__ == "__main__":
    pictures = stream.open_stream("tiny", sys.argv[1], image_size=8)
    iterator = stream.train_batches(pictures, seed=0, batch_size=4, workers=1)
    next(iterator)
    time.sleep(0.5)  # until the worker has made all that it may
    print(*(child.pid for child in multiprocessing.active_children()), flush=True)
    sys.stdin.read()
"""


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
@pytest.mark.parametrize("kill", [True, False], ids=["killed", "left"])
def test_workers_do_not_outlive_their_parent(folder, tmp_path, kill):
    script = tmp_path / "parent.py"
    script.write_text(ORPHANS)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    command = [sys.executable, str(script), folder]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, text=True
    ) as parent:
        assert parent.stdin and parent.stdout and parent.stderr
        (worker,) = map(int, parent.stdout.readline().split())
        assert alive(worker)
        if kill:
            parent.kill()
        parent.stdin.close()
        assert parent.wait() == (-signal.SIGKILL if kill else 0)
        assert kill or parent.stderr.read() == ""
    while alive(worker):
        time.sleep(0.05)


def test_arrays_are_streamed_as_they_are(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (5, 4, 5, 3), np.uint8)
    rows = [(image, number % 3) for number, image in enumerate(images)]
    pictures = stream.open_stream("tiny", prepare(tmp_path, TENSOR, {"train": rows, "test": rows}), image_size=7)
    ((found, labels, _),) = stream.test_batches(pictures, batch_size=5)
    # A side of 4 is scaled to 8, of which the middle 7 are kept.
    expected = {
        np.asarray(PIL.Image.fromarray(image).resize((10, 8), PIL.Image.Resampling.BILINEAR))[:7, 1:8].tobytes(): label
        for image, label in rows
    }
    assert {image.tobytes(): label for image, label in zip(found, labels.tolist(), strict=True)} == expected


def test_validation_is_tested_on_where_test_has_no_labels(tmp_path):
    labelled = [(picture(number), 1) for number in range(4)]
    splits = {"train": labelled, "validation": labelled[:3], "test": [(picture(0), -1)]}
    pictures = stream.open_stream("tiny", prepare(tmp_path, splits=splits), image_size=SIDE)
    assert pictures.test.split == "validation" and pictures.test_count == 3


def cut_off(part: float):
    return lambda file: file.write_bytes(file.read_bytes()[: int(part * file.stat().st_size)])


def flip_a_byte_of_the_last_record(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[content.rindex(b"image")] ^= 1
    file.write_bytes(content)


DAMAGES = {
    "cut off early": (cut_off(0.01), "is damaged or cut off"),
    "cut in half": (cut_off(0.5), "is damaged or cut off"),
    "cut off late": (cut_off(0.999), "is damaged or cut off"),
    "empty": (cut_off(0), "is damaged or cut off"),
    "last record": (flip_a_byte_of_the_last_record, "is damaged or cut off"),
    "missing": (Path.unlink, "is missing"),
    "another split's": (
        lambda file: shutil.copy(str(file).replace("train", "test"), file),
        "holds 3 records in place of",
    ),
}


@pytest.mark.parametrize(("damage", "message"), DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_file_is_named(folder, tmp_path, damage, message):
    shutil.copytree(folder, tmp_path / "sets")
    file = tmp_path / "sets" / "tiny" / "1.0.0" / "tiny-train.array_record-00001-of-00003"
    damage(file)
    with pytest.raises(UserError, match=f"'tiny': the file {file} .*{message}"):
        stream.open_stream("tiny", str(tmp_path / "sets"), image_size=SIDE)


def both(examples: list) -> dict[str, list]:
    return dict.fromkeys(COUNTS, examples)


FLOATS = {"image": tfds.features.Tensor(shape=(2, 2, 1), dtype=np.float32), "label": LABEL}
UNNAMED = {"image": TENSOR["image"], "label": tfds.features.Scalar(np.int64)}
PAIR = [(np.zeros((4, 5, 3), np.uint8), 0)]
UNUSABLE = {
    "no label": (
        {"image": TENSOR["image"]},
        both([PAIR[0][:1]]),
        "no image-classification set.*image",
    ),
    "no test": (TENSOR, {"train": PAIR}, "has only: train"),
    "floats": (FLOATS, both([(np.zeros((2, 2, 1), np.float32), 0)]), "must hold uint8 .* float32"),
    "no classes": (UNNAMED, both(PAIR), "label must be a ClassLabel"),
}


@pytest.mark.parametrize(("features", "splits", "message"), UNUSABLE.values(), ids=UNUSABLE.keys())
def test_unusable_sets_are_refused(tmp_path, features, splits, message):
    with pytest.raises(UserError, match=message):
        stream.open_stream("tiny", prepare(tmp_path, features, splits), image_size=SIDE)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda folder, _: stream.open_stream("tinny", folder, image_size=8), "did you mean 'tiny'"),
        (lambda folder, _: stream.open_stream("mnist", folder, image_size=8), "'mnist' is not prepared .*tfds build"),
        (lambda folder, _: stream.open_stream("digits", folder, image_size=8), "digits is read into memory"),
        (lambda folder, _: stream.open_stream("tiny", folder, image_size=0), "at least 1 pixel, not 0"),
        (lambda _, pictures: batches(pictures, 1, batch_size=24), "batch_size 24 is larger than the 23 examples"),
        (lambda _, pictures: batches(pictures, 1, batch_size=0), "batch_size must be at least 1, not 0"),
        (
            lambda _, pictures: batches(pictures, 1, batch_size=10, processes=4),
            "batch_size 10 cannot be divided between 4 processes; the nearest that can is 8",
        ),
        (
            lambda _, pictures: stream.test_batches(pictures, batch_size=3, processes=2),
            "batch_size 3 cannot be divided",
        ),
    ],
)
def test_impossible_wishes_are_refused(folder, pictures, call, message):
    with pytest.raises(UserError, match=message):
        call(folder, pictures)


def test_a_missing_grain_is_named(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "grain", None)
    with pytest.raises(UserError, match=r"grain: install `jaxnas\[stream\]`"):
        stream.open_stream("tiny", folder, image_size=SIDE)
