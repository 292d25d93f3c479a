"""Trained networks as portable programs: written into a folder with their weights, loaded without their definition.

An export is a folder of three files. `network.jaxexport` is the program of `jax.export`: (weights by name, uint8 images
[b, h, w, c] of any number b) -> float32 logits [b, classes], with the normalisation of the pixels inside.
`weights.safetensors` holds the weights, named by their places: "params/stem/convolution_0/kernel". `network.json` tells
people and `load_exported` what the network is, and the SHA-256 of the other two files.
"""

import contextlib
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict
from jax import export

from jaxnas import __version__
from jaxnas.core.errors import UserError
from jaxnas.core.types import Array, PyTree
from jaxnas.data.augment import Augmentation, check_settings, normalize
from jaxnas.layers import backend
from jaxnas.train.workdir import disk_errors, read_json, write_json

PROGRAM, WEIGHTS, ABOUT = "network.jaxexport", "weights.safetensors", "network.json"
PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
CONVENTIONS = export.minimum_supported_calling_convention_version, export.maximum_supported_calling_convention_version
FIELDS: Mapping[str, Any] = {
    "image_shape": list,
    "class_names": list,
    "description": dict,
    "border": (int, float),
    "sha256": dict,
    "versions": dict,
}
Folder = str | os.PathLike[str]


class Exported(NamedTuple):
    """A network that was loaded from an export.

    answer: uint8 images [b, *image_shape], b at least 1 -> float32 logits [b, classes], on the default device; compiled
        once for every b. Raises UserError for images of another type or shape.
    image_shape: (height, width, channels). class_names: one for every logit.
    description: what the exporter said of the network, such as its genotype in the literature's notation.
    border: see `export_network`, for `data.image_files.read_images`.
    """

    answer: Callable[[np.ndarray | Array], Array]
    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    description: Mapping[str, Any]
    border: float = 1.0


def export_network(
    folder: Folder,
    network: nn.Module,
    variables: PyTree,
    *,
    image_shape: tuple[int, int, int],
    mean: tuple[float, ...],
    std: tuple[float, ...],
    class_names: Sequence[str],
    description: Mapping[str, Any],
    border: float = 1.0,
) -> None:
    """Writes a network, called as (images, train=False) -> (logits, _), into `folder`; an export there is replaced.

    variables: the collections that the network reads, float32 or bfloat16. image_shape: (height, width, channels).
    mean, std: of each channel, where a full pixel is 1. description: anything that JSON can hold.
    border: how much larger than what the network reads its test images were before their centre was taken.

    The program runs on CPUs, GPUs and TPUs alike. It therefore consists of XLA's own operations only, and on a CPU it
    is slower than `network.apply`, whose depthwise convolutions are written for CPUs. However the process ends, either
    the old export or the new one is whole.

    Raises UserError for statistics or class names that do not fit, for a folder that holds other things than an export,
    and when the disk is full or cannot be written; what stood in the folder is then untouched.
    """
    settings = Augmentation(crop_padding=0, flip=False, cutout=0, mean=tuple(mean), std=tuple(std))
    check_settings(settings, image_shape[-1])
    weights = {name: np.asarray(leaf, order="C") for name, leaf in flatten_dict(variables, sep="/").items()}
    program = _trace(network, settings, weights, image_shape)
    classes = program.out_avals[0].shape[-1]
    if len(class_names) != classes:
        raise UserError(f"there are {len(class_names)} class_names for a network of {classes} classes.")
    files = {PROGRAM: bytes(program.serialize()), WEIGHTS: safetensors.numpy.save(weights)}
    libraries = {name: metadata.version(name) for name in ("jax", "flax", "safetensors")}
    about = {
        "image_shape": image_shape,
        "class_names": list(class_names),
        "description": description,
        "border": border,
        "sha256": {name: hashlib.sha256(data).hexdigest() for name, data in files.items()},
        "versions": {"jaxnas": __version__} | libraries,
    }
    _replace(Path(folder).resolve(), files, about)


def load_exported(folder: Folder) -> Exported:
    """The network that `export_network` wrote into `folder`. It answers the same bit for bit in every process.

    That holds on one kind of device with one version of the libraries. Raises UserError when there is no export, when
    one of its files is missing, damaged or of another export, and when this version of JAX cannot read the program.
    """
    folder = _standing(Path(folder).resolve())
    about, weights = _intact(folder)
    image_shape, class_names = tuple(about["image_shape"]), tuple(about["class_names"])
    program = _read_program(folder / PROGRAM, about["versions"].get("jax"))
    _check_fit(folder, program, weights, image_shape, class_names)
    compiled, weights = jax.jit(program.call), jax.device_put(weights)

    def answer(images: np.ndarray | Array) -> Array:
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != image_shape or not len(images):
            raise UserError(
                f"the network reads images of uint8 {['b', *image_shape]} with b at least 1, not of "
                f"{images.dtype} {list(images.shape)}.".replace("'", "")
            )
        return compiled(weights, images)

    return Exported(answer, image_shape, class_names, about["description"], float(about["border"]))


def exported_variables(folder: Folder) -> PyTree:
    """The variables of the network in an export, as `network.apply` takes them; errors as for `load_exported`."""
    return unflatten_dict(_intact(_standing(Path(folder).resolve())).weights, sep="/")


def _trace(
    network: nn.Module, settings: Augmentation, weights: Mapping[str, np.ndarray], image_shape: tuple[int, int, int]
) -> export.Exported:
    """The program (weights, images) -> logits for all of PLATFORMS, the number of images a variable."""

    def program(weights: Mapping[str, Array], images: Array) -> Array:
        variables = unflatten_dict(dict(weights), sep="/")
        logits, _ = network.apply(variables, normalize(settings, images), train=False)
        return logits.astype(jnp.float32)

    (batch,) = export.symbolic_shape("batch")
    shapes = {name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for name, leaf in weights.items()}
    images = jax.ShapeDtypeStruct((batch, *image_shape), jnp.uint8)
    with backend.use("library"), _without_source_lines():
        return export.export(jax.jit(program), platforms=PLATFORMS)(shapes, images)


@contextlib.contextmanager
def _without_source_lines() -> Iterator[None]:
    """Keeps the paths of this machine out of programs, so that the same network gives the same bytes everywhere."""
    name = "jax_traceback_in_locations_limit"
    limit = jax.config.values[name]
    jax.config.update(name, 0)
    try:
        yield
    finally:
        jax.config.update(name, limit)


def _beside(folder: Path, word: str) -> Path:
    return folder.with_name(f".{folder.name}.{word}")


def _standing(folder: Path) -> Path:
    """Where the export is: in `folder`, or, where a process died between the renamings of `_replace`, beside it."""
    before = _beside(folder, "before")
    return before if before.exists() and not folder.exists() else folder


def _replace(folder: Path, files: Mapping[str, bytes], about: Mapping[str, Any]) -> None:
    """Puts the files in the place of `folder`; at any moment `_standing(folder)` is the old export or the new one."""
    check_export_folder(folder)
    new, before = _beside(folder, "new"), _beside(folder, "before")
    with disk_errors(f"the export {str(folder)!r} cannot be written", "what stood there before is kept"):
        shutil.rmtree(new, ignore_errors=True)  # of a process that died
        try:
            new.mkdir(parents=True)
            for name, data in files.items():
                with (new / name).open("wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
            write_json(new / ABOUT, about)
            if folder.exists():
                shutil.rmtree(before, ignore_errors=True)
                folder.rename(before)
            new.rename(folder)
        finally:
            shutil.rmtree(new, ignore_errors=True)
        shutil.rmtree(before, ignore_errors=True)


class _Intact(NamedTuple):
    about: Mapping[str, Any]
    weights: Mapping[str, np.ndarray]


def _intact(folder: Path) -> _Intact:
    """What an export says of itself, and its weights; raises UserError unless all files are as they were written."""
    if not (folder / ABOUT).exists():
        raise UserError(f"there is no exported network in {str(folder)!r}: it has no file {ABOUT}.")
    about = read_json(folder / ABOUT)
    lacking = [name for name, kind in FIELDS.items() if not isinstance(about.get(name), kind)]
    if lacking:
        raise UserError(f"{str(folder / ABOUT)!r} is damaged: it lacks {lacking[0]}; export the network again.")
    for name in (PROGRAM, WEIGHTS):
        _check_digest(folder / name, about["sha256"].get(name))
    return _Intact(about, safetensors.numpy.load_file(folder / WEIGHTS))


def check_export_folder(folder: Folder) -> None:
    """Raises UserError where a folder to export to holds anything but an export, which would be lost."""
    folder = Path(folder)
    entries = folder.iterdir() if folder.is_dir() else [folder] if folder.exists() else []
    others = [str(entry) for entry in entries if entry.name not in (PROGRAM, WEIGHTS, ABOUT)]
    if others:
        raise UserError(f"{min(others)!r} is not of an export; move it away.")


def _check_digest(path: Path, expected: str | None) -> None:
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"the export's file {str(path)!r} cannot be read: {error.strerror}.") from error
    if digest != expected:
        raise UserError(
            f"{str(path)!r} is damaged or of another export: its SHA-256 is not the one in {ABOUT}; "
            "put an intact copy there, or export the network again."
        )


def _read_program(path: Path, version: str | None) -> export.Exported:
    """The program in an intact file. What cannot be read of one is of a version too new or too old."""
    try:
        program = export.deserialize(bytearray(path.read_bytes()))
        program.mlir_module()  # which is otherwise read, and refused, when the program is called
        convention = program.calling_convention_version
        if not CONVENTIONS[0] <= convention <= CONVENTIONS[1]:
            raise ValueError(f"calling convention {convention}")  # JAX itself does not look at it
    except Exception as error:  # of any kind: a newer format means something else to an older reader
        raise UserError(
            f"{str(path)!r} cannot be read by jax {jax.__version__}, but was written by jax {version}; "
            "install that version, or export the network again."
        ) from error
    return program


def _check_fit(
    folder: Path,
    program: export.Exported,
    weights: Mapping[str, np.ndarray],
    image_shape: tuple[int, ...],
    class_names: Sequence[str],
) -> None:
    """Raises UserError unless the three files belong together, naming the first thing that does not fit."""
    (wanted, images), _ = jax.tree.unflatten(program.in_tree, program.in_avals)
    logits = program.out_avals[0]
    rows = [
        (WEIGHTS, name, _outline(weights.get(name)), _outline(wanted.get(name)))
        for name in sorted(wanted.keys() | weights.keys())
    ]
    rows += [
        (ABOUT, "image_shape", str(list(image_shape)), str(list(images.shape[1:]))),
        (ABOUT, "class_names", f"{len(class_names)} names", f"{logits.shape[-1]} names"),
    ]
    for file, name, given, right in rows:
        if given != right:
            raise UserError(
                f"{str(folder / file)!r} does not fit the program: {name} is {given} there and {right} in the program; "
                "export the network again."
            )


def _outline(leaf: Any) -> str:
    return "missing" if leaf is None else f"{leaf.dtype} {list(leaf.shape)}"
