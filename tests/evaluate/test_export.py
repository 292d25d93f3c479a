import contextlib
import dataclasses
import errno
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from flax import linen as nn
from jax import export
from PIL import Image

from jaxnas.core.errors import UserError
from jaxnas.data.image_files import read_images
from jaxnas.data.stream_images import BORDER, centre
from jaxnas.evaluate.export import export_network, exported_variables, load_exported
from jaxnas.layers.substitutes import KINDS
from jaxnas.networks.cell_network import CellNetwork
from jaxnas.networks.cell_operations import OPERATIONS
from jaxnas.networks.census import census
from jaxnas.networks.residual_network import WideResNet
from jaxnas.networks.substituted import Replacement, SubstitutedNetwork
from jaxnas.spaces.genotype import format_genotype, parse_genotype
from jaxnas.spaces.zoo import Genotype
from tests.networks.random_variables import random_variables

ROOT = Path(__file__).parents[2]
SHAPE, MEAN, STD, NAMES = (8, 8, 1), (0.4,), (0.3,), ("ant", "bee", "cat", "dog", "eel")
PROGRAM, WEIGHTS, ABOUT = FILES = ("network.jaxexport", "weights.safetensors", "network.json")


class Affine(nn.Module):
    """Logits that are an affine function of all pixels: quick to export, with a closed form."""

    @nn.compact
    def __call__(self, images, *, train):
        del train
        return nn.Dense(len(NAMES), name="dense")(images.reshape(images.shape[0], -1)), None


def cell_network(names):
    """A network that runs each of four operations at both strides, and its variables after some training."""
    edges = tuple(zip(names, (0, 1, 0, 1), strict=True))
    network = CellNetwork(Genotype(edges, (2, 3), edges, (2, 3)), channels=2, layers=2, classes=len(NAMES))
    return network, random_variables(network, SHAPE)


def some_images(count=3, shape=SHAPE):
    return np.random.default_rng(count).integers(0, 256, (count, *shape), np.uint8)


def write(folder, network, variables, **changes):
    settings = {"image_shape": SHAPE, "mean": MEAN, "std": STD, "class_names": NAMES, "description": {}}
    export_network(folder, network, variables, **(settings | changes))
    return folder


def affine_variables(seed=0):
    kernel = np.float32(np.random.default_rng(seed).normal(size=(64, len(NAMES))) / 8)
    return {"params": {"dense": {"kernel": kernel, "bias": np.zeros(len(NAMES), np.float32)}}}


def write_affine(folder, seed=0, **changes):
    return write(folder, Affine(), affine_variables(seed), **changes)


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """An affine network's export, which the tests copy."""
    return write_affine(tmp_path_factory.mktemp("exported") / "network")


@pytest.mark.parametrize("first", range(0, len(OPERATIONS), 4))
def test_answers_are_those_of_the_network(first, tmp_path):
    """For every operation; the tolerance is that of float32 sums in another order."""
    network, variables = cell_network([list(OPERATIONS)[(first + i) % len(OPERATIONS)] for i in range(4)])
    answer = load_exported(write(tmp_path, network, variables)).answer
    images = some_images()
    normal = (images.astype(np.float32) / 255 - MEAN[0]) / STD[0]
    logits = jax.jit(lambda images: network.apply(variables, images, train=False)[0])(normal)
    largest = np.abs(logits).max()
    np.testing.assert_allclose(answer(images), logits, rtol=0, atol=1e-5 * largest)
    np.testing.assert_allclose(answer(images[1:2]), logits[1:2], rtol=0, atol=1e-5 * largest)
    assert np.std(logits, axis=0).max() > 0.01 * largest  # the images matter


def test_every_substitute_can_be_exported(tmp_path):
    """A program knows no number of images, on which a substitute must not depend: one in each of 12 convolutions."""
    network = WideResNet(16, 2, len(NAMES))
    layers = [one for one in census(network, SHAPE).convolutions if not {"stem", "shortcut"} & set(one.path)]
    replaced = tuple(
        Replacement(layer.path, layer.dense, kind, KINDS[kind].bounds(layer.dense)[0])
        for layer, kind in zip(layers, KINDS, strict=True)
    )
    network = SubstitutedNetwork(network, replaced)
    variables = random_variables(network, SHAPE)
    answer = load_exported(write(tmp_path, network, variables)).answer
    images = some_images()
    normal = (images.astype(np.float32) / 255 - MEAN[0]) / STD[0]
    logits = jax.jit(lambda images: network.apply(variables, images, train=False)[0])(normal)
    np.testing.assert_allclose(answer(images), logits, rtol=0, atol=1e-5 * np.abs(logits).max())


def test_a_fresh_process_answers_bit_for_bit(tmp_path):
    network, variables = cell_network(["sep_conv_3x3", "max_pool_3x3", "dil_conv_3x3", "skip_connect"])
    description = {"genotype": format_genotype(network.genotype), "accuracy": np.float32(0.5)}
    loaded = load_exported(write(tmp_path / "network", network, variables, description=description))
    assert (loaded.image_shape, loaded.class_names) == (SHAPE, NAMES)
    assert parse_genotype(loaded.description["genotype"]) == network.genotype
    assert loaded.description["accuracy"] == 0.5
    np.save(tmp_path / "images.npy", some_images())
    program = (
        "import numpy as np\n"
        "from jaxnas.evaluate.export import load_exported\n"
        f"folder = {str(tmp_path)!r}\n"
        "answer = load_exported(folder + '/network').answer\n"
        "np.save(folder + '/logits.npy', answer(np.load(folder + '/images.npy')))\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)
    np.testing.assert_array_equal(np.load(tmp_path / "logits.npy"), loaded.answer(some_images()))


def test_the_program_is_portable(tmp_path):
    """All platforms, any number of images, nothing registered by a library, and no trace of this machine."""
    network, variables = cell_network(["sep_conv_3x3", "max_pool_3x3", "avg_pool_3x3", "conv_7x1_1x7"])
    folder = write(tmp_path / "a", network, variables)
    content = (folder / PROGRAM).read_bytes()
    program = export.deserialize(bytearray(content))
    assert {"cpu", "cuda", "tpu"} <= set(program.platforms)
    assert str(program.out_avals[0].shape) == "(batch, 5)" and program.out_avals[0].dtype == jnp.float32
    targets = set(re.findall(r"custom_call @(\w+)", program.mlir_module()))
    assert targets <= {"shape_assertion"}
    assert b".py" not in content
    assert jax.config.values["jax_traceback_in_locations_limit"] > 0
    again = (lambda: write(tmp_path / "b", network, variables))()
    assert [digest(folder / name) for name in FILES] == [digest(again / name) for name in FILES]


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_weights_keep_their_names_types_and_bits(dtype, tmp_path):
    variables = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), affine_variables())
    folder = write(tmp_path, Affine(), variables)
    saved = safetensors.numpy.load_file(folder / WEIGHTS)
    assert set(saved) == {"params/dense/kernel", "params/dense/bias"}
    for name in ("kernel", "bias"):
        leaf = variables["params"]["dense"][name]
        assert saved[f"params/dense/{name}"].dtype == dtype
        np.testing.assert_array_equal(saved[f"params/dense/{name}"], leaf)
    jax.tree.map(np.testing.assert_array_equal, exported_variables(folder), variables)
    images = some_images()
    kernel, bias = (np.asarray(variables["params"]["dense"][name], np.float32) for name in ("kernel", "bias"))
    rows = ((images / 255 - MEAN[0]) / STD[0]).reshape(3, -1).astype(np.float32)
    logits = load_exported(folder).answer(images)
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, rows @ kernel + bias, rtol=1e-4, atol=1e-4)


class Death(BaseException):
    """The end of a process."""


def die_at(moment, patch):
    """Lets everything that makes or moves files fail from its call number `moment` on; tells whether that came."""
    calls = []

    def dying(function):
        def call(*args, **kwargs):
            calls.append(function.__name__)
            if len(calls) > moment:
                raise Death
            return function(*args, **kwargs)

        return call

    for owner, name in ((os, "fsync"), (Path, "rename"), (Path, "mkdir"), (shutil, "rmtree")):
        patch.setattr(owner, name, dying(getattr(owner, name)))
    return calls


@pytest.mark.parametrize("replaced", [True, False])
def test_whenever_the_process_dies_one_export_is_whole(replaced, tmp_path):
    seen, moment, folder = [], 0, tmp_path / "network"
    while True:
        shutil.rmtree(folder, ignore_errors=True)
        if replaced:
            write_affine(folder, seed=0, description={"is": "old"})
        with pytest.MonkeyPatch.context() as patch:
            calls = die_at(moment, patch)
            with contextlib.suppress(Death):
                write_affine(folder, seed=1, description={"is": "new"})
        try:
            seen.append(load_exported(folder).description["is"])  # which compares what is there with its SHA-256
        except UserError as error:
            assert "there is no exported network" in str(error)
            seen.append("none")
        if len(calls) <= moment:
            break
        moment += 1
    old = seen.index("new")
    assert seen == ["old" if replaced else "none"] * old + ["new"] * (len(seen) - old)
    assert old >= 5 and calls.count("fsync") == 3 and calls.count("rename") == 1 + replaced
    assert list(tmp_path.iterdir()) == [folder]  # an export cleans up behind one that died


def test_a_full_disk_keeps_what_stood_there(exported, tmp_path, monkeypatch):
    folder = shutil.copytree(exported, tmp_path / "network")
    before = {name: digest(folder / name) for name in FILES}

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"cannot be written: no space left on device; what stood there before is kept"):
        write_affine(folder, seed=1)
    assert {name: digest(folder / name) for name in FILES} == before
    assert list(tmp_path.iterdir()) == [folder]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"class_names": NAMES[:3]}, "there are 3 class_names for a network of 5 classes"),
        ({"mean": (0.1, 0.2, 0.3)}, "mean has 3 values for images of 1 channels"),
        ({"std": (0.0,)}, "std must be above 0"),
    ],
)
def test_settings_that_do_not_fit(changes, message, tmp_path):
    with pytest.raises(UserError, match=message):
        write_affine(tmp_path / "network", **changes)
    assert list(tmp_path.iterdir()) == []


def test_other_peoples_files_are_never_replaced(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    for folder in (tmp_path, tmp_path / "config.json"):
        with pytest.raises(UserError, match=r"config.json' is not of an export; move it away"):
            write_affine(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def seal(folder, **changes):
    """Rewrites network.json as if it had been written with the other files, with some of its fields changed."""
    about = json.loads((folder / ABOUT).read_text())
    sha256 = {name: digest(folder / name) for name in (PROGRAM, WEIGHTS)}
    (folder / ABOUT).write_text(json.dumps(about | {"sha256": sha256} | changes))


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def change_weights(folder, **changes):
    weights = safetensors.numpy.load_file(folder / WEIGHTS)
    weights |= {f"params/dense/{name}": value for name, value in changes.items()}
    kept = {name: value for name, value in weights.items() if value is not None}
    (folder / WEIGHTS).write_bytes(safetensors.numpy.save(kept))
    seal(folder)


def change_program(folder, change):
    (folder / PROGRAM).write_bytes(change((folder / PROGRAM).read_bytes()))
    seal(folder)


def of_the_future(content):
    program = export.deserialize(bytearray(content))
    newer = export.maximum_supported_calling_convention_version + 1
    return bytes(dataclasses.replace(program, calling_convention_version=newer).serialize())


def of_a_newer_dialect(content):
    program = export.deserialize(bytearray(content))
    return bytes(dataclasses.replace(program, mlir_module_serialized=b"ML\xefR\x99" + bytes(100)).serialize())


ZEROS = np.zeros((64, 5), np.float32)
DAMAGE = [
    (lambda folder: shutil.rmtree(folder), "there is no exported network in '.*': it has no file network.json"),
    (lambda folder: (folder / ABOUT).unlink(), "there is no exported network"),
    (lambda folder: (folder / WEIGHTS).unlink(), "weights.safetensors' cannot be read: No such file"),
    (lambda folder: flip(folder / WEIGHTS), "weights.safetensors' is damaged or of another export"),
    (lambda folder: flip(folder / PROGRAM), "network.jaxexport' is damaged or of another export"),
    (lambda folder: (folder / ABOUT).write_text("{"), "network.json' is damaged: it is not valid JSON"),
    (lambda folder: seal(folder, class_names=None), "network.json' is damaged: it lacks class_names"),
    (lambda folder: seal(folder, sha256={}), "network.jaxexport' is damaged or of another export"),
    (lambda folder: seal(folder, class_names=["a"]), "class_names is 1 names there and 5 names in the program"),
    (lambda folder: seal(folder, image_shape=[9, 8, 1]), r"image_shape is \[9, 8, 1\] there and \[8, 8, 1\] in the"),
    (lambda folder: change_weights(folder, bias=None), r"bias is missing there and float32 \[5\] in the program"),
    (lambda folder: change_weights(folder, more=ZEROS), r"more is float32 \[64, 5\] there and missing in the program"),
    (lambda folder: change_weights(folder, kernel=ZEROS.T.copy()), r"kernel is float32 \[5, 64\] there and float32"),
    (lambda folder: change_weights(folder, kernel=ZEROS.astype(int)), r"kernel is int64 \[64, 5\] there and float32"),
    (lambda folder: change_program(folder, lambda content: content[:-100]), "cannot be read by jax .* written by jax"),
    (lambda folder: change_program(folder, lambda content: b"\xff" * 1000), "install that version, or export the"),
    (lambda folder: change_program(folder, of_the_future), "cannot be read by jax"),
    (lambda folder: change_program(folder, of_a_newer_dialect), "cannot be read by jax"),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGE)
def test_damaged_exports_are_named(damage, message, exported, tmp_path):
    folder = shutil.copytree(exported, tmp_path / "network")
    damage(folder)
    with pytest.raises(UserError, match=message) as raised:
        load_exported(folder)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "images",
    [
        some_images().astype(np.float32),
        some_images(3, (8, 7, 1)),
        some_images()[0],
        some_images(3, (8, 8, 3)),
        some_images(0),
    ],
)
def test_images_of_another_kind_are_refused(images, exported):
    given = f"not of {images.dtype} {list(images.shape)}."
    with pytest.raises(UserError, match=r"reads images of uint8 \[b, 8, 8, 1\] with b at least 1") as raised:
        load_exported(exported).answer(images)
    assert str(raised.value).endswith(given)


GREY, COLOURED = some_images(1, (8, 8))[0], some_images(2, (8, 8, 3))[0]


def save(path, pixels, **options):
    Image.fromarray(pixels).save(path, **options)
    return path


def test_images_of_the_right_size_are_read_as_they_are(tmp_path):
    grey, coloured = save(tmp_path / "grey.png", GREY), save(tmp_path / "coloured.png", COLOURED)
    np.testing.assert_array_equal(
        read_images([coloured, grey], (8, 8, 3)), [COLOURED, np.repeat(GREY[..., None], 3, axis=-1)]
    )
    images = read_images([grey, str(coloured)], (8, 8, 1))
    np.testing.assert_array_equal(images[0, ..., 0], GREY)
    luma = COLOURED @ [0.299, 0.587, 0.114]  # ITU-R BT.601
    assert np.abs(images[1, ..., 0] - luma).max() <= 1
    opaque = np.concatenate([COLOURED, GREY[..., None]], axis=-1)
    np.testing.assert_array_equal(read_images([save(tmp_path / "a.png", opaque)], (8, 8, 3))[0], COLOURED)


def test_images_of_other_sizes_are_prepared_as_for_testing(tmp_path):
    pixels = some_images(1, (30, 20, 3))[0]
    images = read_images([save(tmp_path / "large.png", pixels)], (8, 8, 3), BORDER)
    np.testing.assert_array_equal(images[0], centre(Image.fromarray(pixels), 8))
    whole = read_images([tmp_path / "large.png"], (8, 8, 3))
    np.testing.assert_array_equal(whole[0], centre(Image.fromarray(pixels), 8, 1.0))
    dot = save(tmp_path / "dot.png", np.full((1, 1), 7, np.uint8))
    assert np.all(read_images([dot], SHAPE) == 7)


def test_photos_are_turned_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 90 degrees clockwise
    path = save(tmp_path / "photo.png", GREY, exif=exif)
    np.testing.assert_array_equal(read_images([path], SHAPE)[0, ..., 0], np.rot90(GREY, -1))


@pytest.mark.parametrize(
    ("make", "shape", "message"),
    [
        (lambda path: None, SHAPE, "there is no image file '.*x.png'"),
        (lambda path: path.mkdir(), SHAPE, "there is no image file '.*x.png'"),
        (lambda path: path.write_text("image"), SHAPE, "x.png' is not an image that can be read"),
        (
            lambda path: path.write_bytes(save(path, GREY).read_bytes()[:60]),
            SHAPE,
            "x.png' is not an image that can be",
        ),
        (lambda path: save(path, GREY.astype(np.uint16)), SHAPE, "x.png' has more than 8 bits a channel"),
        (lambda path: save(path, GREY), (8, 6, 1), "x.png' has 8x8 pixels, but the network reads 6x8"),
        (lambda path: save(path, GREY), (8, 8, 2), "the network reads images of 2 channels, but image files have 1 or"),
    ],
)
def test_files_that_cannot_be_classified(make, shape, message, tmp_path):
    make(tmp_path / "x.png")
    with pytest.raises(UserError, match=message):
        read_images([tmp_path / "x.png"], shape)
