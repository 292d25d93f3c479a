"""Calibrated statistics are the means of what the batches have, and make evaluation on one batch its training mode."""

import functools

import jax
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
    draw = jax.jit(functools.partial(random, elastic_space(plan)))
    return MobileNetV3(plan, concrete(plan, draw(jax.random.key(0))), 3)


@functools.cache
def inputs():
    images = np.random.default_rng(1).normal(size=(BATCHES, 4, *SHAPE))
    return random_variables(network(), SHAPE), images * np.arange(1, BATCHES + 1)[:, None, None, None, None]


@functools.partial(jax.jit, static_argnames="train")
def answer(variables, images, train):
    return network().apply(variables, images, train=train, mutable=["batch_stats"])[0][0]


def close(actual, expected):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), actual, expected)  # float32


def test_evaluation_on_the_only_batch_is_training_mode():
    variables, images = inputs()
    found = calibrated(network(), variables, images[:1])
    close(answer(found, images[0], train=False), answer(variables, images[0], train=True))
    jax.tree.map(np.testing.assert_array_equal, found["params"], variables["params"])


def test_statistics_are_the_means_over_batches():
    """Of all layers those of single batches; of the stem, which reads the images themselves, by hand."""
    variables, images = inputs()
    found = calibrated(network(), variables, images)["batch_stats"]
    single = [calibrated(network(), variables, images[n : n + 1])["batch_stats"] for n in range(BATCHES)]
    close(found, jax.tree.map(lambda *leaves: np.mean(leaves, axis=0), *single))
    kernel = variables["params"]["stem"]["convolution"]["kernel"]
    padding = ((1, 1), (1, 1))
    layout = ("NHWC", "HWIO", "NHWC")
    convolve = jax.jit(lambda x: jax.lax.conv_general_dilated(x, kernel, (1, 1), padding, dimension_numbers=layout))
    hidden = [np.asarray(convolve(batch)) for batch in images]
    means, variances = (np.mean([of(batch, axis=(0, 1, 2)) for batch in hidden], axis=0) for of in (np.mean, np.var))
    close(found["stem"]["normalization"]["batch_norm"], {"mean": means, "var": variances})


@pytest.mark.parametrize("before", [0.0, 7.0])
def test_what_the_statistics_were_does_not_matter(before):
    variables, images = inputs()
    other = variables | {"batch_stats": jax.tree.map(lambda leaf: np.full_like(leaf, before), variables["batch_stats"])}
    close(calibrated(network(), other, images[:1]), calibrated(network(), variables, images[:1]))
