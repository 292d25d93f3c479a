import json
import runpy
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from PIL import Image

from jaxnas.evaluate.export import export_network

LAUNCHER = str(Path(__file__).parents[2] / "launch/predict.py")
SLOPES = (1.0, -2.0, 0.5, 0.0)
NAMES = ("bright", "dark", "grey", "any")


class Brightness(nn.Module):
    """Logits that are the mean pixel times a slope for each class, so that the probabilities have a closed form."""

    @nn.compact
    def __call__(self, images, *, train):
        del train
        slopes = self.param("slopes", lambda key: jnp.asarray(SLOPES))
        return jnp.mean(images, axis=(1, 2, 3))[:, None] * slopes, None


def probabilities(pixel):
    """Of images of one colour."""
    powers = np.exp(np.asarray(SLOPES) * (pixel / 255 - 0.5) / 0.25)
    return dict(zip(NAMES, powers / powers.sum(), strict=True))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("predict") / "network"
    variables = {"params": {"slopes": jnp.asarray(SLOPES)}}
    statistics = {"mean": (0.5,), "std": (0.25,)}
    export_network(
        folder, Brightness(), variables, image_shape=(4, 4, 1), class_names=NAMES, description={}, **statistics
    )
    return folder


@pytest.fixture
def images(tmp_path):
    """A folder with images b0.png, b10.png, ... of one colour each, and what is no image."""
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "a.txt").write_text("no image")
    for pixel in (0, 10, 200):
        Image.new("L", (4, 4), pixel).save(folder / f"b{pixel}.png")
    return folder


def predict(model, *flags):
    """Runs the launcher in this process, which spares the imports; its exit code."""
    before = sys.argv, list(sys.path)
    sys.argv = [LAUNCHER, f"--model={model}", *flags]
    try:
        runpy.run_path(LAUNCHER, run_name="__main__")
    except SystemExit as end:
        return end.code
    finally:
        sys.argv, sys.path[:] = before
    raise AssertionError("the launcher did not end with an exit code")


def test_a_json_object_for_each_image(model, images, tmp_path, capsys):
    """Those of a folder in order, then the others; every class of one and a few of the next."""
    colour = tmp_path / "colour.png"
    Image.new("RGB", (9, 9), (50, 50, 50)).save(colour)
    assert predict(model, f"--images={images},{colour}", "--top=9", "--json=True") == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["file"] for row in rows] == [*(str(images / f"b{pixel}.png") for pixel in (0, 10, 200)), str(colour)]
    for row, pixel in zip(rows, (0, 10, 200, 50), strict=True):
        expected = probabilities(pixel)
        assert [one["name"] for one in row["classes"]] == sorted(NAMES, key=lambda name: -expected[name])
        for one in row["classes"]:
            np.testing.assert_allclose(one["probability"], expected[one["name"]], rtol=1e-5)


def test_an_aligned_line_for_each_image(model, images, capsys):
    assert predict(model, f"--images={images / 'b0.png'},{images / 'b200.png'}", "--top=2") == 0
    lines = capsys.readouterr().out.splitlines()
    for line, pixel in zip(lines, (0, 200), strict=True):
        expected = probabilities(pixel)
        best = sorted(NAMES, key=lambda name: -expected[name])[:2]
        assert line.split() == [
            str(images / f"b{pixel}.png"),
            *(word for name in best for word in (name, f"{expected[name]:.1%}")),
        ]
    assert lines[0].index("%") == lines[1].index("%")


def test_more_images_than_are_computed_at_once(model, tmp_path, capsys):
    pixels = [(7 * number) % 256 for number in range(70)]
    for number, pixel in enumerate(pixels):
        Image.new("L", (4, 4), pixel).save(tmp_path / f"{number:03}.png")
    assert predict(model, f"--images={tmp_path}", "--top=1", "--json=True") == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [Path(row["file"]).name for row in rows] == [f"{number:03}.png" for number in range(70)]
    found = [row["classes"][0]["probability"] for row in rows]
    np.testing.assert_allclose(found, [max(probabilities(pixel).values()) for pixel in pixels], rtol=1e-5)


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ([], "the flag --images is missing"),
        (["--images=nothing.png"], "there is no image file 'nothing.png'."),
        (["--images=,"], "there is no image file ''."),
        (["--images={images}/a.txt"], "a.txt' is not an image that can be read"),
        (["--images={model}"], "there are no images in the folder"),
        (["--images={images}", "--top=0"], "--top is '0', but has to be a whole number of at least 1."),
        (["--images={images}", "--top=all"], "--top is 'all', but has to be a whole number of at least 1."),
        (["--images={images}", "--json=true"], "unknown value of --json 'true'; did you mean 'True'?"),
        (["--images={images}", "--model={images}"], "there is no exported network in"),
    ],
)
def test_mistakes_are_one_sentence(flags, sentence, model, images, capsys):
    assert predict(model, *(flag.format(images=images, model=model) for flag in flags)) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert sentence in printed.err and printed.err.count("\n") == 1
