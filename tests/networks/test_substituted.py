"""Networks with substitutes: the dense networks of their explicit kernels, within budgets that they use up."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict

from jaxnas.core.errors import UserError
from jaxnas.costs.counting import count_params, network_cost
from jaxnas.evaluate.description import describe_network
from jaxnas.layers.substitutes import KINDS
from jaxnas.networks.binary_resnet import XnorResNet
from jaxnas.networks.cell_network import CellNetwork
from jaxnas.networks.cell_operations import HE_GAIN, PYTORCH_GAIN
from jaxnas.networks.census import census
from jaxnas.networks.initial import init_variables
from jaxnas.networks.residual_network import WideResNet
from jaxnas.networks.substituted import Replacement, SubstitutedNetwork, substituted
from jaxnas.spaces.genotype import Genotype
from tests.networks.random_variables import random_variables

# Convolutions that are called once, with kernels of uneven sides, of stride 2 and shifted by a pixel.
CELL = (("sep_conv_3x3", 0), ("conv 3x3", 1))
REDUCTION = (("conv_3x1_1x3", 0), ("skip_connect", 1))
NETWORKS = {
    "wide": WideResNet(10, 1, 3),
    "cells": CellNetwork(Genotype(CELL, (2,), REDUCTION, (2,)), channels=12, layers=2, classes=3),
}
SHAPE, CIFAR = (8, 8, 2), (32, 32, 3)
WIDE = NETWORKS["wide"]


def with_substitutes(network, kind):
    """Substitutes of one kind, of a middling size, in all convolutions but those of the stem."""
    found = [one for one in census(network, SHAPE).convolutions if "stem" not in one.path]
    bounds = [KINDS[kind].bounds(one.dense) for one in found]
    settings = [least + (most - least) // 3 for least, most in bounds]
    rows = zip(found, settings, strict=True)
    return SubstitutedNetwork(network, tuple(Replacement(one.path, one.dense, kind, number) for one, number in rows))


def explicit(network, variables):
    """The dense network's variables that compute the same, each kernel that of a substitute; and the substitutes' own.

    {path: weights of the substitute}.
    """
    flat, own = flatten_dict(variables), {}
    for path, substitute in network.substitutes().items():
        own[path] = {key[-1]: flat.pop(key) for key in list(flat) if key[:-1] == ("params", *path)}
        flat["params", *path, "kernel"] = substitute.kernel(own[path])
    return unflatten_dict(flat), own


@pytest.mark.parametrize(
    ("name", "kind"),
    [*(("wide", kind) for kind in KINDS), *(("cells", kind) for kind in ("hashed_separable", "acdc", "low_rank"))],
)
def test_a_network_with_substitutes_is_the_dense_one_of_their_kernels(name, kind):
    """Its variables stand where they stood. Biases, which kernels leave out, are added to the dense convolutions'."""
    dense = NETWORKS[name]
    network = with_substitutes(dense, kind)
    images = np.random.default_rng(1).normal(size=(3, *SHAPE))

    @jax.jit
    def answers(variables, images):
        kernels, own = explicit(network, variables)
        assert jax.tree.map(jnp.shape, kernels) == jax.tree.map(jnp.shape, census(dense, SHAPE).variables)

        def biased(call, arguments, keywords, context):
            weights = own.get(context.module.path, {}) if context.method_name == "__call__" else {}
            return call(*arguments, **keywords) + weights.get("bias", 0.0) if weights else call(*arguments, **keywords)

        with nn.intercept_methods(biased):
            expected = dense.apply(kernels, images, train=False)[0]
        return network.apply(variables, images, train=False)[0], expected

    found, expected = jax.device_get(answers(random_variables(network, SHAPE), images))
    assert np.std(expected) > 0.1
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=1e-3)


def test_the_counts_of_the_compression_experiments():
    """HashedDecimate at a tenth of every convolution; it multiplies as the dense network does."""
    network = substituted(WideResNet(28, 10, 10), CIFAR, kind="hashed_decimate", budget=0.1, keep=("stem", "shortcut"))
    cost = network_cost(network, CIFAR)
    assert cost.params == 3_911_898
    described = describe_network(network, CIFAR)
    assert (described["params"], described["mult_adds"]) == (3_911_898, 5_243_328_768)
    assert described["dense_params"] == 36_479_194
    rows = described["substitutes"]
    assert len(rows) == 24
    assert described["dense_params"] - described["params"] == sum(row["dense_params"] - row["params"] for row in rows)
    for row, one in zip(rows, network.replacements, strict=True):  # a tenth, and a bias
        assert row["params"] == one.dense.params // 10 + one.dense.features


@pytest.mark.parametrize("kind", ["hashed", "low_rank", "tucker"])
@pytest.mark.parametrize("share", [0.3, 0.55])
def test_a_share_is_what_every_layer_keeps_at_the_most(kind, share):
    """One step more of the hyper-parameter would exceed it."""
    network = substituted(WIDE, SHAPE, kind=kind, budget=share, keep=("stem",))
    for one in network.replacements:
        assert one.substitute().params <= share * one.dense.params
        if one.setting < KINDS[kind].bounds(one.dense)[1]:
            larger = one._replace(setting=one.setting + 1).substitute()
            assert larger.params > share * one.dense.params


def total_of(network):
    return count_params(census(network, SHAPE).variables["params"])


@pytest.mark.parametrize("kind", ["low_rank", "acdc", "shuffle"])
@pytest.mark.parametrize("place", [0.0, 0.2, 0.7])
def test_a_total_is_used_up_by_one_share_for_all(kind, place):
    """The next larger share of which any layer could make something would exceed it."""
    whole = substituted(WIDE, SHAPE, kind=kind, budget=1e9, keep=("stem",))
    least = [replacement_within(one, 0) for one in whole.replacements]
    most = [replacement_within(one, 1.0) for one in whole.replacements]
    rest = total_of(WIDE) - sum(one.dense.params for one in whole.replacements)
    smallest, largest = (rest + sum(one.substitute().params for one in ends) for ends in (least, most))
    assert total_of(whole) == largest
    budget = smallest + int(place * (largest - smallest))
    network = substituted(WIDE, SHAPE, kind=kind, budget=float(budget), keep=("stem",))
    assert total_of(network) <= budget
    # Every share at which a layer changes: one more number of a layer's parameters.
    shares = sorted({size / one.dense.params + 1e-9 for one in whole.replacements for size in sizes(one)} | {0.0})
    totals = [rest + sum(replacement_within(one, share).substitute().params for one in least) for share in shares]
    assert total_of(network) == max(total for total in totals if total <= budget)


def sizes(one):
    least, most = KINDS[one.kind].bounds(one.dense)
    found = {KINDS[one.kind].build(one.dense, number).params for number in range(least, most + 1)}
    return [size for size in found if size <= one.dense.params]


def replacement_within(one, share):
    """The largest substitute within a share, and the smallest where there is none."""
    least, most = KINDS[one.kind].bounds(one.dense)
    every = {number: KINDS[one.kind].build(one.dense, number).params for number in range(least, most + 1)}
    fitting = {number: size for number, size in every.items() if size <= share * one.dense.params}
    number = max(fitting, key=lambda one: fitting[one]) if fitting else min(every, key=lambda one: every[one])
    return one._replace(setting=number)


def test_what_is_kept_is_not_replaced():
    everything = substituted(WIDE, SHAPE, kind="hashed", budget=0.5, keep=())
    assert {one.path[0] for one in everything.replacements} == {"stem", "group_1", "group_2", "group_3"}
    kept = substituted(WIDE, SHAPE, kind="hashed", budget=0.5, keep=("group_2", "shortcut"))
    paths = {one.path for one in kept.replacements}
    assert paths == {one.path for one in everything.replacements if not {"group_2", "shortcut"} & set(one.path)}


def test_an_auxiliary_head_stays_and_counts_in_no_budget():
    """It is gone when the network is trained; its 400,000 parameters would be most of them."""
    shape, settings = (32, 32, 3), {"kind": "low_rank", "keep": ("stem",)}
    with_head, without = (NETWORKS["cells"].clone(auxiliary=flag) for flag in (True, False))
    for budget in (0.5, 0.6 * network_cost(without, shape).params):
        found = substituted(with_head, shape, budget=budget, **settings)
        assert found.replacements == substituted(without, shape, budget=budget, **settings).replacements
        rows = describe_network(found, shape)
        saved = sum(row["dense_params"] - row["params"] for row in rows["substitutes"])
        assert rows["dense_params"] - rows["params"] == saved


def test_binary_convolutions_stay():
    network = XnorResNet(4, 3, depths=(1, 1))
    found = substituted(network, SHAPE, kind="low_rank", budget=0.5, keep=("stem",))
    assert [one.path[-1] for one in found.replacements] == ["shortcut"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "hash"}, "unknown substitute 'hash'; did you mean 'hashed'"),
        ({"keep": ("stemm",)}, "substitute.keep names 'stemm', but no convolution is within; there are block_1, "),
        ({"keep": ("stem", "group_1", "group_2", "group_3")}, "substitute.keep leaves no convolution to be replaced"),
        (
            {"kind": "hashed", "budget": 0.01},
            r"group_2/block_1/shortcut: the budget of .* 5 parameters, but .* needs at least 33\.",
        ),
        ({"kind": "low_rank", "budget": 100.0}, "is 100 parameters, but with 'low_rank' .* at least LEAST"),
    ],
)
def test_wishes_that_no_network_meets(settings, message):
    least = substituted(WIDE, SHAPE, kind="low_rank", budget=20_000.0, keep=("stem",))
    smallest = total_of(SubstitutedNetwork(WIDE, tuple(replacement_within(one, 0) for one in least.replacements)))
    with pytest.raises(UserError, match=message.replace("LEAST", f"{smallest}\\.")):
        substituted(WIDE, SHAPE, **{"kind": "low_rank", "budget": 0.5, "keep": ("stem",)} | settings)


def initial(network):
    """Initial variables, from one program."""
    return jax.device_get(jax.jit(lambda key: init_variables(network, key, SHAPE))(jax.random.key(0)))


def test_initial_variables_have_the_variance_of_each_convolution():
    """He et al. for wide networks' convolutions, replaced or not; PyTorch's for linear layers and for cells.

    Kernels are uniform: the mean of n squares has the standard error 0.9 / √n of its value.
    """
    width = WideResNet(10, 4, 3)
    network = substituted(width, SHAPE, kind="low_rank", budget=0.5, keep=("stem", "shortcut", "group_1"))
    for built, gain in ((width, HE_GAIN), (NETWORKS["cells"], PYTORCH_GAIN)):
        flat: Any = flatten_dict(initial(built)["params"])
        for path, leaf in flat.items():
            if path[-1] == "kernel" and leaf.ndim == 4:
                relative = np.mean(leaf**2) * leaf[..., 0].size / gain
                assert abs(relative - 1) < 4 * 0.9 / leaf.size**0.5, path
    replaced = initial(network)
    flat = flatten_dict(replaced["params"])
    classifier = flat["classifier", "kernel"]
    assert np.max(np.abs(classifier)) <= len(classifier) ** -0.5
    shapes = census(network, SHAPE).variables
    assert jax.tree.map(jnp.shape, replaced) == jax.tree.map(jnp.shape, shapes)
    for path, substitute in network.substitutes().items():
        kernel = np.asarray(jax.jit(substitute.kernel)({key[-1]: flat[key] for key in flat if key[:-1] == path}))
        assert 0.5 < np.mean(kernel**2) * kernel[..., 0].size / HE_GAIN < 1.5  # products vary more


def test_kept_kernels_are_those_without_substitutes_in_distribution_only():
    """Each substitute draws from a key of its own place: two equal layers start differently."""
    network = substituted(WideResNet(16, 1, 3), SHAPE, kind="low_rank", budget=0.5, keep=("stem", "shortcut"))
    params = initial(network)["params"]["group_1"]
    first, second = (jax.tree.leaves(params["block_2"][f"convolution_{number}"]) for number in (1, 2))
    assert all(one.shape == two.shape and np.any(one != two) for one, two in zip(first, second, strict=True))
