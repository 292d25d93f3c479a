"""Colours can be told apart, also by readers with the common kinds of colour blindness, and carry legible text."""

import itertools

import numpy as np
import pytest

from jaxnas.report.palette import CURVES, OPERATIONS, OTHERS, channels, colors, contrast, text_on

# Machado, Oliveira & Fernandes 2009, severity 1, for linear sRGB.
VISION = {
    "normal": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
}
# Ottosson 2020: Oklab.
TO_CONES = [
    [0.4122214708, 0.5363325363, 0.0514459929],
    [0.2119034982, 0.6806995451, 0.1073969566],
    [0.0883024619, 0.2817188376, 0.6299787005],
]
TO_LAB = [
    [0.2104542553, 0.7936177850, -0.0040720468],
    [1.9779984951, -2.4285922050, 0.4505937099],
    [0.0259040371, 0.7827717662, -0.8086757660],
]


def seen(rgb, vision):
    """#rrggbb as Oklab coordinates under a kind of vision."""
    values = np.asarray(channels(rgb))
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    return np.asarray(TO_LAB) @ np.cbrt(np.asarray(TO_CONES) @ np.clip(np.asarray(VISION[vision]) @ linear, 0, 1))


@pytest.mark.parametrize("vision", VISION)
def test_operations_can_be_told_apart(vision):
    for first, second in itertools.combinations(OPERATIONS, 2):
        distance = np.linalg.norm(seen(OPERATIONS[first], vision) - seen(OPERATIONS[second], vision))
        assert distance > 0.09, (first, second)  # about four times what is just noticeable side by side


@pytest.mark.parametrize("vision", VISION)
def test_other_options_can_be_told_apart_and_from_the_operations_beside_them(vision):
    beside = [OPERATIONS[name] for name in ("none", "skip_connect", "max_pool_3x3", "avg_pool_3x3")]
    for first, second in itertools.combinations((*OTHERS, *beside), 2):
        assert np.linalg.norm(seen(first, vision) - seen(second, vision)) > 0.09, (first, second)


def test_colours_are_an_operations_own_or_given_in_a_fixed_order():
    chosen = colors(["a", "skip_connect", "b", "a", "identity", "zero", "c"])
    own = {
        "skip_connect": OPERATIONS["skip_connect"],
        "identity": OPERATIONS["skip_connect"],
        "zero": OPERATIONS["none"],
    }
    assert chosen == {"a": OTHERS[0], "b": OTHERS[1], "c": OTHERS[2]} | own
    many = [f"option {number}" for number in range(len(OTHERS) + 1)]
    assert list(colors(many).values()) == [*OTHERS, OTHERS[0]]


@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize(("theme", "ground"), [(0, "#ffffff"), (1, "#191c22")], ids=["light", "dark"])
def test_curves_can_be_told_apart_and_from_the_ground(vision, theme, ground):
    colors = [pair[theme] for pair in CURVES]
    for first, second in itertools.combinations(colors, 2):
        assert np.linalg.norm(seen(first, vision) - seen(second, vision)) > 0.09, (first, second)
    assert min(contrast(each, ground) for each in colors) > 2.3


@pytest.mark.parametrize("background", [*OPERATIONS.values(), *OTHERS])
def test_text_on_a_colour_is_legible(background):
    assert contrast(background, text_on(background)) >= 4.5  # WCAG 2.2, level AA


def test_contrast_of_black_and_white_is_21():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#406ebe", "#406ebe") == 1
