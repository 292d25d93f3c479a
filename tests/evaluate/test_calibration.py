"""Calibrated statistics are the means of what the batches have, and make evaluation on one batch its training mode."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.evaluate.calibration import calibrated
from jaxnas.networks.mobilenet_v3 import MobileNetV3
from jaxnas.spaces.elastic import concrete, elastic_plan, elastic_space
from jaxnas.spaces.space import random
from tests.networks.random_variables import random_variables

BATCHES, SHAPE = 3, (8, 8, 2)


@functools.cache
def network():
    plan = elastic_plan(
        stem=4,
        stem_stride=1,
        first=4,
        widths=(6,),
        strides=(2,),
        squeeze=(True,),
        hard_swish=(True,),
        final=8,
        head=6,
        kernels=(3,),
        expansions=(2,),
        depths=(2,),
        resolutions=(8,),
        divisor=2,
    )
    return MobileNetV3(plan, concrete(plan, random(elastic_space(plan), jax.random.key(0))), 3)


@functools.cache
def inputs():
    images = (
        jax.random.normal(jax.random.key(1), (BATCHES, 4, *SHAPE))
        * jnp.arange(1, BATCHES + 1)[:, None, None, None, None]
    )
    return random_variables(network(), SHAPE), images


def close(actual, expected):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), actual, expected)  # float32


def test_evaluation_on_the_only_batch_is_training_mode():
    variables, images = inputs()
    measured = calibrated(network(), variables, images[:1])
    (expected, _), _ = network().apply(variables, images[0], train=True, mutable=["batch_stats"])
    actual, _ = network().apply(measured, images[0], train=False)
    close(actual, expected)
    jax.tree.map(np.testing.assert_array_equal, measured["params"], variables["params"])


def test_statistics_are_the_means_over_batches():
    """Of all layers those of single batches; of the stem, which reads the images themselves, by hand."""
    variables, images = inputs()
    found = calibrated(network(), variables, images)["batch_stats"]
    single = [calibrated(network(), variables, images[n : n + 1])["batch_stats"] for n in range(BATCHES)]
    close(found, jax.tree.map(lambda *leaves: np.mean(leaves, axis=0), *single))
    kernel = variables["params"]["stem"]["convolution"]["kernel"]
    padding = ((1, 1), (1, 1))
    layout = ("NHWC", "HWIO", "NHWC")
    hidden = [
        jax.lax.conv_general_dilated(batch, kernel, (1, 1), padding, dimension_numbers=layout) for batch in images
    ]
    means, variances = (np.mean([of(batch, axis=(0, 1, 2)) for batch in hidden], axis=0) for of in (np.mean, np.var))
    close(found["stem"]["normalization"]["batch_norm"], {"mean": means, "var": variances})


@pytest.mark.parametrize("before", [0.0, 7.0])
def test_what_the_statistics_were_does_not_matter(before):
    variables, images = inputs()
    other = variables | {
        "batch_stats": jax.tree.map(lambda leaf: jnp.full_like(leaf, before), variables["batch_stats"])
    }
    close(calibrated(network(), other, images[:1]), calibrated(network(), variables, images[:1]))
