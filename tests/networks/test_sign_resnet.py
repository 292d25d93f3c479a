"""Residual networks with signs: by hand, in two halves, and what the loss is blind to."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.networks import sign_resnet
from jaxnas.relax.binary import sign, straight_through

IMAGES = np.random.default_rng(1).normal(size=(6, 8, 8, 1))
PARAMS = jax.jit(lambda key: sign_resnet.init(key, 1, 5, channels=(3, 4), blocks=2))(jax.random.key(0))
apply = jax.jit(sign_resnet.apply, static_argnames="binary_weights")


def by_hand(params, images):
    """The same with lax convolutions and explicit statistics."""

    def convolve(x, kernel, stride=1):
        pad = kernel.shape[0] // 2
        dimensions = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(x, kernel, (stride,) * 2, ((pad, pad),) * 2, dimension_numbers=dimensions)

    def norm(x):
        return (x - x.mean((0, 1, 2))) / jnp.sqrt(x.var((0, 1, 2)) + 1e-5)

    x = norm(convolve(images, params["stem"]))
    for number, block in enumerate(params["blocks"]):
        stride = 2 if number == 2 else 1
        shortcut = convolve(x, block["shortcut"], stride) if number == 2 else x
        signs = jnp.where(x >= 0, 1.0, -1.0)
        x = shortcut + norm(convolve(signs, block["kernel"], stride)) * block["scale"] + block["bias"]
    return x.mean((1, 2)) @ params["head"]["kernel"] + params["head"]["bias"]


def test_a_network_by_hand():
    assert [set(block) for block in PARAMS["blocks"]].count({"kernel", "scale", "bias", "shortcut"}) == 1
    np.testing.assert_allclose(apply(PARAMS, IMAGES), jax.jit(by_hand)(PARAMS, IMAGES), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("block", range(5))
def test_before_and_after_a_block_make_the_whole(block):
    def both(params, images):
        entering = sign_resnet.before(params, images, block, sign)
        return sign_resnet.after(params, entering, block, sign), sign_resnet.apply(params, images)

    np.testing.assert_array_equal(*jax.jit(both)(PARAMS, IMAGES))


def test_the_scale_of_a_kernel_changes_nothing():
    scaled = {**PARAMS, "blocks": tuple({**block, "kernel": 7 * block["kernel"]} for block in PARAMS["blocks"])}
    np.testing.assert_allclose(apply(scaled, IMAGES), apply(PARAMS, IMAGES), rtol=1e-3)


def test_binary_weights_act_by_their_signs():
    signs = tuple({**block, "kernel": sign(block["kernel"])} for block in PARAMS["blocks"])
    np.testing.assert_allclose(
        apply(PARAMS, IMAGES, binary_weights=True),
        apply({**PARAMS, "blocks": signs}, IMAGES),
        rtol=1e-5,
    )


@pytest.mark.parametrize("binary", [False, True])
def test_every_weight_learns_through_the_signs(binary):
    labels = np.arange(6) % 5

    def loss(params):
        logits = sign_resnet.apply(params, IMAGES, straight_through(), binary_weights=binary)
        return sign_resnet.cross_entropy(logits, labels)

    gradient = jax.device_get(jax.jit(jax.grad(loss))(PARAMS))
    assert all(np.any(leaf) for leaf in jax.tree.leaves(gradient))


def test_the_loss_is_the_mean_cross_entropy():
    logits, labels = np.asarray([[0.0, 1.0], [2.0, 0.0]]), np.asarray([1, 1])
    expected = np.mean([np.log(1 + np.exp(-1.0)), np.log(1 + np.exp(2.0))])
    np.testing.assert_allclose(jax.jit(sign_resnet.cross_entropy)(logits, labels), expected, rtol=1e-6)
