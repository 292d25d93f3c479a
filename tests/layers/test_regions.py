"""Images that fill a part of a map: statistics of that part alone, and resizing into it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.layers.normalization import EPSILON, Leading, batch_norm, mean_of_pixels
from jaxnas.layers.resizing import interpolation, on_canvas, resized

REGION = np.zeros((5, 6))
REGION[:3, :4] = 1


def images_of(*shape):
    return 2 + np.random.default_rng(0).standard_normal(shape)


def score(values):
    return jnp.sum(jnp.sin(values))


def by_definition(images, region):
    """The weights of the positions are the region's share of all of it; images [devices, b, h, w, c]."""
    weights = (region / jnp.sum(region))[..., None]
    count = images.shape[0] * images.shape[1]
    mean = jnp.sum(images * weights, axis=(0, 1, 2, 3)) / count
    variance = jnp.sum(jnp.square(images - mean) * weights, axis=(0, 1, 2, 3)) / count
    return (images - mean) / jnp.sqrt(variance + EPSILON)


@pytest.mark.parametrize("soft", [False, True])
def test_batch_norm_of_a_region_against_autodiff(soft):
    """Of two devices together; values, and gradients for the images (also those outside) and for the region."""
    with jax.enable_x64(True):
        images = images_of(2, 3, 5, 6, 4)
        region = REGION + 0.25 * soft

        def of_device(own, region):
            return score(batch_norm(own, "devices", region))

        own_gradients = jax.vmap(jax.value_and_grad(of_device, argnums=(0, 1)), in_axes=(0, None), axis_name="devices")
        values, (images_bar, region_bars) = jax.jit(own_gradients)(images, region)
        actual = jnp.sum(values), (images_bar, jnp.sum(region_bars, axis=0))
        expected = jax.jit(jax.value_and_grad(lambda *both: score(by_definition(*both)), argnums=(0, 1)))(
            images, region
        )
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11), actual, expected)


@pytest.mark.parametrize("statistics", [None, Leading(2, None)], ids=["all", "leading"])
def test_the_statistics_of_a_region_are_those_of_the_images_cut_out(statistics):
    with jax.enable_x64(True):
        images, region = images_of(3, 5, 6, 4), REGION
        normalised = jax.jit(batch_norm, static_argnums=1)
        expected = normalised(images[:, :3, :4], statistics)
        found = np.asarray(normalised(images, statistics, region))
        np.testing.assert_allclose(found[:, :3, :4], expected, rtol=1e-12)
        np.testing.assert_allclose(mean_of_pixels(images, region), mean_of_pixels(images[:, :3, :4]), rtol=1e-12)
        np.testing.assert_allclose(mean_of_pixels(images), np.mean(images, axis=(1, 2)), rtol=1e-12)


@pytest.mark.parametrize(("pixels", "size"), [(6, 6), (6, 4), (6, 9), (7, 3), (5, 1), (1, 4), (32, 20)])
def test_resizing_is_bilinear_and_antialiased(pixels, size):
    images = np.float32(images_of(2, pixels, pixels, 3))
    expected = jax.jit(lambda images: jax.image.resize(images, (2, size, size, 3), "linear", antialias=True))(images)
    found = resized(images, size)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    matrix = interpolation(pixels, size)
    np.testing.assert_allclose(np.einsum("ih,jw,bhwc->bijc", matrix, matrix, images), expected, atol=1e-5)
    assert (found is images) == (pixels == size)


@pytest.mark.parametrize("option", range(3))
def test_a_smaller_image_stands_in_the_corner_of_the_canvas(option):
    images, sizes = np.float32(images_of(2, 6, 7, 3)), (4, 7, 9)
    canvas = jax.jit(on_canvas, static_argnums=1)(images, sizes, np.eye(3, dtype=np.float32)[option])
    expected = np.zeros((2, 9, 9, 3))
    expected[:, : sizes[option], : sizes[option]] = jax.jit(resized, static_argnums=1)(images, sizes[option])
    np.testing.assert_allclose(canvas, expected, atol=1e-6)  # the same float32 sums, in another order


def test_a_canvas_of_one_size_reads_no_gates():
    images = np.float32(images_of(2, 6, 7, 3))
    np.testing.assert_array_equal(on_canvas(images, (5,), jnp.full(1, jnp.nan)), resized(images, 5))
