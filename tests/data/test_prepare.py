"""CIFAR-10 and CIFAR-100 from archives in their published layout, and the command that prepares them."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds

from jaxnas.core.errors import UserError
from jaxnas.data.prepare import main, prepare
from jaxnas.data.sources import load
from jaxnas.data.tfds_cifar import BUILDERS

tfds.disable_progress_bar()
RNG = np.random.default_rng(0)
RECORDS = 3


def archive(folder: Path, name: str, spoil: bool = False) -> tuple[Path, dict[str, tuple[np.ndarray, np.ndarray]]]:
    """Writes an archive of a few random records; returns it and what each split holds."""
    layout = BUILDERS[name].LAYOUT
    path, content = folder / f"{name}.tar.gz", {}
    with tarfile.open(path, "w:gz") as tar:

        def add(member: str, data: bytes) -> None:
            entry = tarfile.TarInfo(f"{layout.folder}/{member}")
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))

        add(layout.class_names_file, "\n".join(f"class{number}" for number in range(layout.classes)).encode() + b"\n\n")
        for split, files in layout.splits.items():
            images = RNG.integers(0, 256, (len(files), RECORDS, 3, 32, 32), np.uint8)
            labels = np.arange(len(files) * RECORDS, dtype=np.uint8).reshape(len(files), RECORDS, 1) % layout.classes
            coarse = np.full((len(files), RECORDS, layout.label_bytes - 1), 77, np.uint8)
            records = np.concatenate([coarse, labels, images.reshape(len(files), RECORDS, -1)], axis=-1)
            for file, record in zip(files, records, strict=True):
                add(file, record.tobytes()[: -1 if spoil else None])
            content[split] = images.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), labels.ravel()
    return path, content


def rows(images: np.ndarray, labels: np.ndarray) -> list[tuple[int, bytes]]:
    return sorted((int(label), image.tobytes()) for image, label in zip(images, labels, strict=True))


@pytest.mark.parametrize("name", list(BUILDERS))
def test_prepared_archive_reads_back_pixel_by_pixel(tmp_path, name, capsys):
    source, content = archive(tmp_path, name)
    assert main([name, f"--path={tmp_path / 'sets'}", f"--archive={source}"]) == 0
    assert str(tmp_path / "sets" / name) in capsys.readouterr().out
    data = load(name, str(tmp_path / "sets"))
    assert rows(data.x_train, data.y_train) == rows(*content["train"])
    assert rows(data.x_test, data.y_test) == rows(*content["test"])
    assert data.class_names == tuple(f"class{number}" for number in range(len(data.class_names)))
    assert len(data.class_names) == BUILDERS[name].LAYOUT.classes


def test_a_prepared_set_is_kept(tmp_path):
    source, _ = archive(tmp_path, "cifar10")
    first = prepare("cifar10", str(tmp_path), str(source))
    source.write_bytes(b"")
    assert prepare("cifar10", str(tmp_path), str(source)) == first


def test_a_damaged_archive_leaves_no_set(tmp_path):
    source, _ = archive(tmp_path, "cifar10", spoil=True)
    with pytest.raises(UserError, match="not whole records"):
        prepare("cifar10", str(tmp_path / "sets"), str(source))
    with pytest.raises(UserError, match="not prepared"):
        load("cifar10", str(tmp_path / "sets"))


def test_the_other_archive_is_refused(tmp_path):
    source, _ = archive(tmp_path, "cifar100")
    with pytest.raises(UserError, match=r"holds no file cifar-10-batches-bin/batches\.meta\.txt"):
        prepare("cifar10", str(tmp_path / "sets"), str(source))


@pytest.mark.parametrize("content", [b"", b"no archive at all"])
def test_a_file_that_is_no_archive_is_refused(tmp_path, content):
    (tmp_path / "file.tar.gz").write_bytes(content)
    with pytest.raises(UserError, match="cannot be read"):
        prepare("cifar10", str(tmp_path / "sets"), str(tmp_path / "file.tar.gz"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["cifar1O"], "did you mean 'cifar10'"),
        (["mnist"], "tfds build mnist"),
        (["cifar10", "--archive=none.tar.gz"], "the archive none.tar.gz does not exist"),
    ],
)
def test_mistakes_are_one_sentence_and_a_status(tmp_path, arguments, message, capsys):
    assert main([*arguments, f"--path={tmp_path / 'sets'}"]) == 1
    printed = capsys.readouterr()
    assert message in printed.err and printed.err.startswith("error: ") and printed.err.count("\n") == 1
    assert printed.out == "" and not (tmp_path / "sets").exists()


def test_an_unreachable_server_is_reported_before_anything_is_written(tmp_path, monkeypatch):
    layout = BUILDERS["cifar10"].LAYOUT._replace(url="http://127.0.0.1:9/cifar-10-binary.tar.gz")
    monkeypatch.setattr(BUILDERS["cifar10"], "LAYOUT", layout)
    with pytest.raises(UserError, match=r"cannot be reached .* --archive=FILE"):
        prepare("cifar10", str(tmp_path / "sets"))
    assert not (tmp_path / "sets").exists()


def test_a_file_in_the_place_of_the_folder_is_reported(tmp_path):
    source, _ = archive(tmp_path, "cifar10")
    (tmp_path / "sets").write_text("in the way")
    with pytest.raises(UserError, match="cifar10 could not be prepared under"):
        prepare("cifar10", str(tmp_path / "sets"), str(source))
