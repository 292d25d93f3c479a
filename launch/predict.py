"""Classifies image files with an exported network and prints a line for each: the file, then its likeliest classes.

An image of another size than the network reads is resized to cover it, and the middle is kept. With --json=True a line
is one JSON object: {"file": path, "classes": [{"name": class, "probability": between 0 and 1}, likeliest first]}
"""

import sys
from json import dumps
from pathlib import Path
from typing import Any

BATCH = 64  # images at once: the program is compiled for one number of them


def run(model: str, images: str, top: str, json: str) -> None:
    """Prints the `top` likeliest classes of all `images` by the network in the folder `model`."""
    from jaxnas.core.cache import enable_compilation_cache
    from jaxnas.core.errors import UserError, choose

    if not top.isdecimal() or int(top) < 1:
        raise UserError(f"--top is {top!r}, but has to be a whole number of at least 1.")
    as_json = choose("value of --json", json, {"True": True, "False": False})
    files = image_files(images)

    from jaxnas.evaluate.export import load_exported

    enable_compilation_cache()
    exported = load_exported(model)
    width = max(len(file) for file in files)
    class_width = max(len(name) for name in exported.class_names)
    for start in range(0, len(files), BATCH):
        batch = files[start : start + BATCH]
        for file, row in zip(batch, probabilities(exported, batch, min(BATCH, len(files))), strict=True):
            likeliest = sorted(range(len(row)), key=lambda number: -row[number])[: int(top)]
            classes = [{"name": exported.class_names[number], "probability": row[number]} for number in likeliest]
            if as_json:
                print(dumps({"file": file, "classes": classes}))
            else:
                columns = [f"{one['name']:<{class_width}} {one['probability']:>6.1%}" for one in classes]
                print("   ".join([f"{file:<{width}}", *columns]))


def image_files(names: str) -> list[str]:
    """The files that --images names: those of a folder sorted, as far as their ending is one of an image's."""
    from PIL import Image

    from jaxnas.core.errors import UserError

    endings = {ending for ending, kind in Image.registered_extensions().items() if kind in Image.OPEN}
    files = []
    for name in names.split(","):
        if not name or not Path(name).is_dir():
            files.append(name)
            continue
        inside = sorted(str(file) for file in Path(name).iterdir() if file.suffix.lower() in endings)
        if not inside:
            raise UserError(f"there are no images in the folder {name!r}.")
        files += inside
    return files


def probabilities(exported: Any, files: list[str], size: int) -> list[list[float]]:
    """The probability of every class for each of at most `size` files, computed for a batch of `size` images."""
    import jax
    import numpy as np

    from jaxnas.data.image_files import read_images

    images = read_images(files, exported.image_shape, exported.border)
    full = np.pad(images, ((0, size - len(files)), (0, 0), (0, 0), (0, 0)))
    return np.asarray(jax.nn.softmax(exported.answer(full)))[: len(files)].tolist()


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from jaxnas.core.cli import Flag, main

    flags = {
        "model": Flag("the folder of an exported network"),
        "images": Flag("image files and folders of images, separated by commas"),
        "top": Flag("how many classes to print for an image", "3"),
        "json": Flag("True to print a JSON object for every image", "False"),
    }
    sys.exit(main(run, description=__doc__ or "", flags=flags, config=False))
