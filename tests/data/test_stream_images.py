"""Crops against closed forms: where they are, how large, and what an image of its own coordinates becomes."""

import io
import math

import numpy as np
import PIL.Image
import pytest

from jaxnas.core.errors import UserError
from jaxnas.data import stream_images
from jaxnas.data.stream_images import AREA, RATIO, Records, centre, crop, crop_box, open_image

SIZES = [(500, 375), (375, 500), (64, 64), (1, 1), (3, 2), (1, 300), (300, 1), (300, 100), (7, 90)]


def coordinates(width: int, height: int) -> PIL.Image.Image:
    """Red is the column, green the row."""
    rows, columns = np.mgrid[:height, :width].astype(np.uint8)
    return PIL.Image.fromarray(np.stack([columns, rows, np.zeros_like(rows)], axis=-1))


def encoded(image: PIL.Image.Image, encoding: str, **settings) -> bytes:
    file = io.BytesIO()
    image.save(file, encoding, **settings)
    return file.getvalue()


def records(*images) -> Records:
    return Records("fake", "train", [{"image": image, "label": 0} for image in images], "image", "label", 2)


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_crops_lie_within_the_image_and_within_the_ranges_of_area_and_ratio(width, height):
    for seed in range(200):
        left, top, inner_width, inner_height = crop_box(np.random.default_rng(seed), width, height)
        assert 0 <= left <= left + inner_width <= width and inner_width >= 1
        assert 0 <= top <= top + inner_height <= height and inner_height >= 1
        # The sides are rounded, hence the halves.
        if 1 / RATIO <= width / height <= RATIO:
            assert (inner_width + 0.5) * (inner_height + 0.5) >= AREA[0] * width * height
        assert (inner_width - 0.5) / (inner_height + 0.5) <= RATIO
        assert (inner_height - 0.5) / (inner_width + 0.5) <= RATIO


@pytest.mark.parametrize(
    ("width", "height", "box"), [(300, 9, (144, 0, 12, 9)), (9, 300, (0, 144, 9, 12)), (1, 1, (0, 0, 1, 1))]
)
def test_an_image_too_long_for_any_crop_gives_its_centre(width, height, box):
    # Of 9 x 300 pixels 8 % are 216, which need a side of at least sqrt(216 * 3 / 4) > 9.
    assert all(crop_box(np.random.default_rng(seed), width, height) == box for seed in range(20))


def test_area_place_and_mirroring_have_their_distributions():
    """On a large square with ratio e^l, l uniform in ±c, c = log(4/3), an area a fits with a <= e^-|l|. So areas fit
    with the chance ((1 - e^-c) / c - .08) / .92, and their mean is half of ((1 - e^-2c) / 2c - .08²) over the same.
    """
    side, count = 10_000, 4000
    boxes = np.array([crop_box(np.random.default_rng((1, seed)), side, side) for seed in range(count)])
    left, top, width, height = boxes.T
    bound = math.log(RATIO)
    whole = (1 - math.exp(-2 * bound)) / (2 * bound) - AREA[0] ** 2
    expected = whole / 2 / ((1 - math.exp(-bound)) / bound - AREA[0])
    area = width * height / side**2
    error = 4 / math.sqrt(count)  # four standard deviations, in units of one
    assert abs(area.mean() - expected) < error * area.std()
    assert abs(np.log(width / height).mean()) < error * bound / math.sqrt(3)
    for place in (left / (side - width + 1), top / (side - height + 1)):  # uniform in 0 ... 1
        assert abs(place.mean() - 1 / 2) < error / math.sqrt(12)
        assert abs((place**2).mean() - 1 / 3) < error * math.sqrt(1 / 5 - 1 / 9)
    crops = [crop(coordinates(16, 16), np.random.default_rng(seed), 4) for seed in range(400)]
    mirrored = np.mean([pixels[0, -1, 0] < pixels[0, 0, 0] for pixels in crops])
    assert abs(mirrored - 1 / 2) < 4 / math.sqrt(400) / 2


@pytest.mark.parametrize(("width", "height"), [(200, 150), (120, 250), (40, 40)])
@pytest.mark.parametrize("size", [16, 30])
def test_a_crop_of_coordinates_is_the_ramp_of_its_box(width, height, size):
    for seed in range(20):
        left, top, inner_width, inner_height = crop_box(np.random.default_rng(seed), width, height)
        pixels = crop(coordinates(width, height), np.random.default_rng(seed), size)
        assert pixels.shape == (size, size, 3) and pixels.dtype == np.uint8
        steps = (np.arange(size) + 0.5) / size
        columns, rows = left + steps * inner_width - 0.5, top + steps * inner_height - 0.5
        found = pixels.astype(float)
        if found[0, -1, 0] < found[0, 0, 0]:
            found = found[:, ::-1]
        # A symmetric filter keeps a ramp, but for the outermost pixels and rounding.
        inner = slice(1, -1)
        assert np.abs(found[inner, inner, 0] - columns[None, inner]).max() <= 1
        assert np.abs(found[inner, inner, 1] - rows[inner, None]).max() <= 1


@pytest.mark.parametrize(("width", "height"), [(200, 150), (150, 200), (64, 64), (20, 33), (5, 4)])
def test_a_test_image_is_resized_and_then_cut(width, height):
    image, size = coordinates(width, height), 14  # 14 * 256 / 224 = 16
    resized = (round(16 * width / min(width, height)), round(16 * height / min(width, height)))
    left, top = ((side - size) // 2 for side in resized)
    expected = image.resize(resized, PIL.Image.Resampling.BILINEAR).crop((left, top, left + size, top + size))
    assert np.abs(centre(image, size).astype(int) - np.asarray(expected).astype(int)).max() <= 1


def test_a_large_jpeg_is_decoded_at_an_eighth_and_looks_the_same():
    smooth = coordinates(50, 40).resize((1000, 800), PIL.Image.Resampling.BICUBIC)
    jpeg = open_image(encoded(smooth, "JPEG", quality=95))
    pixels = centre(jpeg, 32)
    assert jpeg.size == (125, 100)
    assert np.abs(pixels.astype(float) - centre(smooth, 32)).max() <= 3  # a JPEG's own error is as large
    assert (
        np.abs(np.asarray(centre(open_image(encoded(smooth, "PNG")), 32)).astype(int) - centre(smooth, 32)).max() == 0
    )


GREY = PIL.Image.new("L", (9, 7), 90)
PALETTE = PIL.Image.new("RGB", (9, 7), (90, 90, 90)).quantize(2)
ENCODINGS = {
    "grey": (GREY, "PNG", {}),
    "grey jpeg": (GREY, "JPEG", {}),
    "grey of 16 bits": (PIL.Image.fromarray(np.full((7, 9), 90 * 257, np.uint16)), "PNG", {}),
    "grey with alpha": (PIL.Image.new("LA", (9, 7), (90, 128)), "PNG", {}),
    "colour with alpha": (PIL.Image.new("RGBA", (9, 7), (90, 90, 90, 10)), "PNG", {}),
    "palette": (PALETTE, "PNG", {}),
    "transparent palette": (PALETTE, "PNG", {"transparency": bytes([255, 0])}),
    "cmyk": (PIL.Image.new("CMYK", (9, 7), (165, 165, 165, 0)), "JPEG", {"quality": 100}),
    "gif": (GREY, "GIF", {}),
}


@pytest.mark.parametrize(("image", "encoding", "settings"), ENCODINGS.values(), ids=ENCODINGS.keys())
def test_every_kind_of_image_becomes_red_green_and_blue(image, encoding, settings):
    pixels = centre(open_image(encoded(image, encoding, **settings)), 4)
    assert pixels.shape == (4, 4, 3)
    assert np.abs(pixels.astype(int) - 90).max() <= 1


@pytest.mark.parametrize("shape", [(5, 6), (5, 6, 1), (5, 6, 3), (5, 6, 4)])
def test_arrays_are_images_too(shape):
    array = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    image = open_image(array)
    assert image.size == (6, 5)
    assert np.array_equal(np.asarray(image), array.squeeze(-1) if shape[-1] == 1 else array)


def test_a_draw_depends_on_seed_and_position_alone():
    images = records(*[np.asarray(coordinates(30, 30))] * 4)
    whole, _ = stream_images.train_arrays(images, 6, 5, slice(0, 4), 3, [0, 1, 2, 3])
    part, _ = stream_images.train_arrays(images, 6, 5, slice(2, 4), 3, [3, 2, 1, 0])
    assert np.array_equal(part, whole[2:])
    others = [
        stream_images.train_arrays(images, 6, *draw, [0, 1, 2, 3])[0] for draw in ((6, slice(4), 3), (5, slice(4), 4))
    ]
    distinct = {image.tobytes() for batch in (whole, *others) for image in batch}
    assert len(distinct) == 12


@pytest.mark.parametrize(
    ("content", "label", "message"),
    [
        (b"no image", 0, "'fake': record 0 of its split train cannot be decoded: cannot identify image"),
        (encoded(coordinates(99, 99), "JPEG")[:900], 0, "record 0 .* cannot be decoded: .*truncated"),
        (np.zeros((5, 5, 2, 2), np.uint8), 0, "record 0 .* cannot be decoded"),
        (np.zeros((5, 5, 3), np.uint8), 2, r"record 0 .* has the label 2; labels must be in 0 \.\.\. 1"),
        (np.zeros((5, 5, 3), np.uint8), -1, "record 0 .* has the label -1"),
    ],
)
def test_a_bad_record_is_named(content, label, message):
    bad = records()._replace(source=[{"image": content, "label": label}])
    with pytest.raises(UserError, match=message):
        stream_images.train_arrays(bad, 4, 0, slice(0, 1), 0, [0])
