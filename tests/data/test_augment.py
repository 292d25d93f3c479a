"""Augmentation against brute force in numpy and closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.core.errors import UserError
from jaxnas.data.augment import Augmentation, augment, check_settings, crop_and_flip, cutout_mask, normalize, statistics

RNG = np.random.default_rng(0)
OFF = Augmentation(crop_padding=0, flip=False, cutout=0, mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.5))
RAW = OFF._replace(mean=(0.0, 0.0, 0.0), std=(1 / 255, 1 / 255, 1 / 255))  # pixel values come out as they are
ALL = RAW._replace(crop_padding=2, flip=True, cutout=4)
apply, normal = (jax.jit(of, static_argnums=0) for of in (augment, normalize))
move, mask_of = jax.jit(crop_and_flip, static_argnums=4), jax.jit(cutout_mask, static_argnums=(2, 3, 4))


def pixels(*shape: int) -> np.ndarray:
    return RNG.integers(1, 256, shape, np.uint8)  # no zeros, so that padding and cutout can be told apart


def keys(count: int, seed: int = 0) -> jax.Array:
    return jax.random.split(jax.random.key(seed), count)


def brute_force_crop(image: np.ndarray, top: int, left: int, flip: bool, padding: int) -> np.ndarray:
    height, width = image.shape[:2]
    padded = np.pad(image, ((padding, padding), (padding, padding), (0, 0)))
    cropped = padded[top : top + height, left : left + width]
    return cropped[:, ::-1] if flip else cropped


def test_normalize_closed_form():
    images = pixels(2, 3, 4, 3)
    expected = (images / 255 - np.array(OFF.mean)) / np.array(OFF.std)
    result = normal(OFF, images)
    assert result.dtype == jnp.float32
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-6)


def test_augment_with_everything_off_is_normalize():
    images = pixels(4, 5, 6, 3)
    np.testing.assert_allclose(apply(OFF, keys(4), images), normal(OFF, images), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("height", "width", "padding"), [(5, 5, 2), (4, 7, 1), (6, 3, 4), (3, 3, 0)])
def test_crop_and_flip_equal_brute_force_at_every_offset(height, width, padding):
    span = range(2 * padding + 1)
    cases = [(top, left, flip) for top in span for left in span for flip in (False, True)]
    images = pixels(len(cases), height, width, 2)
    result = move(images, *(np.asarray(column) for column in zip(*cases, strict=True)), padding)
    assert result.dtype == jnp.uint8
    expected = [brute_force_crop(image, *case, padding) for image, case in zip(images, cases, strict=True)]
    assert np.array_equal(result, expected)


def test_flipping_twice_is_the_identity():
    images, how = pixels(3, 4, 5, 1), (np.zeros(3, int), np.zeros(3, int), np.ones(3, bool), 0)
    once = move(images, *how)
    assert np.array_equal(once, images[:, :, ::-1])
    assert np.array_equal(move(once, *how), images)


@pytest.mark.parametrize("side", [0, 1, 2, 5, 6, 30])
def test_cutout_mask_is_the_clipped_square(side):
    height, width, half = 7, 9, side // 2
    row, column = (each.ravel() for each in np.mgrid[:height, :width])
    expected = np.zeros((height * width, height, width), bool)
    for mask, y, x in zip(expected, row, column, strict=True):
        mask[max(y - half, 0) : y + half, max(x - half, 0) : x + half] = True
    result = np.asarray(mask_of(row, column, side, height, width))
    assert np.array_equal(result, expected)
    inner = (row >= half) & (row + half <= height) & (column >= half) & (column + half <= width)
    assert np.all(np.sum(result, axis=(1, 2))[inner] == (2 * half) ** 2)


def test_random_crops_and_flips_reach_every_case_and_nothing_else():
    settings = RAW._replace(crop_padding=1, flip=True)
    image = pixels(3, 4, 3)
    count = 900
    results = apply(settings, keys(count), np.stack([image] * count))
    cases = {
        brute_force_crop(image, top, left, flip, 1).tobytes(): 0
        for top in range(3)
        for left in range(3)
        for flip in (False, True)
    }
    assert len(cases) == 18
    for result in np.rint(np.asarray(results)).astype(np.uint8):
        cases[result.tobytes()] += 1
    assert sum(cases.values()) == count and len(cases) == 18
    # 50 expected of each; five standard deviations of a binomial count
    assert all(abs(number - 50) < 5 * np.sqrt(50 * 17 / 18) for number in cases.values())


def test_cutout_centres_are_uniform_and_the_rest_is_untouched():
    settings, height, width, count = RAW._replace(cutout=2), 3, 4, 1200
    images = pixels(count, height, width, 3)
    results = apply(settings, keys(count), images)
    masks = (np.asarray(results) == 0).all(axis=-1)
    np.testing.assert_allclose(np.where(masks[..., None], 0, images), results, rtol=1e-6)
    row, column = (each.ravel() for each in np.mgrid[:height, :width])
    wanted = np.asarray(mask_of(row, column, 2, height, width))
    number = np.array([(masks == mask).all(axis=(1, 2)).sum() for mask in wanted])
    assert number.sum() == count
    assert np.all(np.abs(number - 100) < 5 * np.sqrt(100 * 11 / 12))


def test_cutout_is_zero_after_normalising():
    settings = OFF._replace(cutout=20)
    results = apply(settings, keys(5), pixels(5, 4, 4, 3))
    assert np.all(np.asarray(results) == 0)


def test_padding_is_black_before_normalising():
    settings = OFF._replace(crop_padding=6)
    images = np.full((50, 2, 2, 3), 255, np.uint8)
    results = np.asarray(apply(settings, keys(50), images)).reshape(-1, 3)
    black, white = ((value - np.array(OFF.mean)) / np.array(OFF.std) for value in (0.0, 1.0))
    is_black, is_white = (np.isclose(results, value, rtol=1e-5).all(axis=1) for value in (black, white))
    assert np.all(is_black | is_white) and is_black.any() and is_white.any()


def test_an_example_does_not_depend_on_its_batch():
    images, key = pixels(6, 5, 5, 3), keys(6)
    whole = np.asarray(apply(ALL, key, images))
    parts = [apply(ALL, key[part], images[part]) for part in (slice(0, 2), slice(2, 4), slice(4, 6))]
    np.testing.assert_allclose(np.concatenate(parts), whole, rtol=1e-6)
    order = np.asarray([3, 1, 5, 0, 2, 4])
    np.testing.assert_allclose(apply(ALL, key[order], images[order]), whole[order], rtol=1e-6)


def test_scan_and_vmap_over_seeds_agree_with_single_calls():
    images = pixels(4, 5, 5, 3)
    key = jnp.stack([keys(4, seed) for seed in range(3)])
    single = np.stack([apply(ALL, each, images) for each in key])
    mapped = jax.jit(jax.vmap(lambda each: augment(ALL, each, images)))(key)
    scanned = jax.lax.scan(lambda carry, each: (carry, augment(ALL, each, images)), None, key)[1]
    np.testing.assert_allclose(mapped, single, rtol=1e-6)
    np.testing.assert_allclose(scanned, single, rtol=1e-6)
    assert not np.array_equal(single[0], single[1])


def test_statistics_are_those_of_the_pixels():
    images = pixels(11, 4, 3, 2)
    mean, std = statistics(images)
    np.testing.assert_allclose(mean, (images / 255).mean(axis=(0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(std, (images / 255).std(axis=(0, 1, 2)), rtol=1e-12)


def test_normalising_by_the_statistics_gives_mean_zero_and_deviation_one():
    images = pixels(20, 4, 4, 3)
    mean, std = statistics(images)
    result = np.asarray(normal(OFF._replace(mean=mean, std=std), images))
    np.testing.assert_allclose(result.mean(axis=(0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(result.std(axis=(0, 1, 2)), 1, rtol=1e-5)


def test_a_constant_channel_normalises_to_zero():
    mean, std = statistics(np.full((3, 2, 2, 1), 51, np.uint8))
    assert mean == (0.2,) and std == (1.0,)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"crop_padding": -1}, "crop_padding must be 0 .* not -1"),
        ({"cutout": -2}, "cutout must be 0 .* not -2"),
        ({"mean": (0.5,)}, "mean has 1 values for images of 3 channels"),
        ({"std": (0.5, 0.5)}, "std has 2 values for images of 3 channels"),
        ({"std": (0.5, 0.0, 0.5)}, "std must be above 0"),
    ],
)
def test_bad_settings_are_refused(changes, message):
    with pytest.raises(UserError, match=message):
        check_settings(OFF._replace(**changes), 3)
    with pytest.raises(UserError, match=message):
        apply(OFF._replace(**changes), keys(1), pixels(1, 2, 2, 3))
