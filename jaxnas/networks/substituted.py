"""Any network with some of its convolutions replaced by compressed ones, and the plan of which by what.

Source: Gray, Crowley & Storkey 2019, "Separable Layers Enable Structured Efficient Linear Substitutions".
"""

import functools
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import linen as nn
from scipy.optimize import bisect

from jaxnas.core.errors import UserError, choose
from jaxnas.core.types import Array
from jaxnas.layers.convolution import Padding
from jaxnas.layers.substitutes import KINDS, within_budget
from jaxnas.layers.substitutes.kinds import Dense, Substitute
from jaxnas.networks.cell_network import Rate
from jaxnas.networks.census import ConvolutionLayer, census

AUXILIARY = "auxiliary_head"  # the module of a network that answers in training only


# Kinds whose size is published: a tenth of the dense layer's, and a bias beside it.
DECIMATED, DECIMATED_SHARE = ("hashed_decimate", "separable_hashed_decimate"), 0.1


class Replacement(NamedTuple):
    """A convolution of a network, and what replaces it: a kind of `layers.substitutes`, and its hyper-parameter."""

    path: tuple[str, ...]
    dense: Dense
    kind: str
    setting: int

    def substitute(self) -> Substitute:
        """The layer itself."""
        return KINDS[self.kind].build(self.dense, self.setting)


class SubstitutedNetwork(nn.Module):
    """A network called as before, whose variables stand where they stood, but for those of what is replaced."""

    network: nn.Module
    replacements: tuple[Replacement, ...]

    def setup(self) -> None:
        """Has no scope of its own, so that a path is the same with and without substitutes."""
        nn.share_scope(self, self.network)

    def substitutes(self) -> Mapping[tuple[str, ...], Substitute]:
        """What replaces the convolution at a path."""
        return {one.path: one.substitute() for one in self.replacements}

    def __call__(self, images: Array, *, train: bool, drop_path_rate: Rate = 0.0) -> tuple[Array, Array | None]:
        """Images [b, h, w, c] -> (logits, auxiliary logits or None), [b, classes] each."""
        substitutes = self.substitutes()

        def replace(call: Any, arguments: Any, keywords: Any, context: nn.module.InterceptorContext) -> Any:
            module = context.module
            if context.method_name != "__call__" or module.path not in substitutes:
                return call(*arguments, **keywords)
            stride, padding = getattr(module, "stride", 1), getattr(module, "padding", None)
            return apply_substitute(module, substitutes[module.path], arguments[0], stride, padding)

        with nn.intercept_methods(replace):
            return self.network(images, train=train, drop_path_rate=drop_path_rate)


def apply_substitute(
    module: nn.Module, substitute: Substitute, images: Array, stride: int, padding: Padding | None
) -> Array:
    """What a substitute answers; its weights become parameters of the module, which has to be in its compact call."""
    shapes = jax.eval_shape(substitute.init, jax.random.key(0))
    weights = {name: module.param(name, lambda key, n: substitute.init(key)[n], name) for name in shapes}
    return substitute.apply(weights, images, stride, padding)


def substituted(
    network: nn.Module,
    image_shape: tuple[int, int, int],
    *,
    kind: str,
    budget: float = 0.0,
    setting: int = 0,
    keep: Sequence[str] = (),
) -> SubstitutedNetwork:
    """The network with its dense convolutions replaced by a kind, as large as the budget allows.

    budget: below 1 the share of its parameters that every replaced layer keeps at the most, else the most parameters
        of the whole network; every layer then gets an equal share of its own. The kinds `DECIMATED` keep a tenth and a
        bias, whatever larger share is asked for.
    setting: above 0 the hyper-parameter of every layer, within its bounds, whatever the budget.
    keep: names of modules whose convolutions stay as they are, "stem" and "shortcut" among them for example. Binary
        convolutions stay, too, and those of an auxiliary head, which counts in no budget: it is gone after training.
    Raises UserError for an unknown kind, a name in `keep` that no module has, nothing to replace, and a budget that is
    below what the layers can do, naming the least possible.
    """
    choose("substitute", kind, KINDS)
    counted = census(network, image_shape)
    convolutions = [one for one in counted.convolutions if not one.binary and one.path[0] != AUXILIARY]
    names = {name for one in counted.convolutions for name in one.path}
    for name in keep:
        if name not in names:
            raise UserError(f"substitute.keep names {name!r}, but no convolution is within; there are {_some(names)}.")
    replaced = [one for one in convolutions if not set(one.path) & set(keep)]
    if not replaced:
        raise UserError("substitute.keep leaves no convolution to be replaced; keep fewer.")
    if setting:
        return SubstitutedNetwork(network, tuple(_with_setting(one, kind, setting) for one in replaced))
    if budget < 1:
        return SubstitutedNetwork(network, tuple(_within(one, kind, budget) for one in replaced))
    lasting = {name: tree for name, tree in counted.variables["params"].items() if name != AUXILIARY}
    total = sum(prod(leaf.shape) for leaf in jax.tree.leaves(lasting))
    return SubstitutedNetwork(network, _within_total(replaced, kind, int(budget), total))


def _with_setting(layer: ConvolutionLayer, kind: str, setting: int) -> Replacement:
    least, most = KINDS[kind].bounds(layer.dense)
    return Replacement(layer.path, layer.dense, kind, min(max(setting, least), most))


def _within(layer: ConvolutionLayer, kind: str, share: float) -> Replacement:
    try:
        if kind in DECIMATED:
            if share < DECIMATED_SHARE:
                raise UserError(f"{kind!r} keeps a tenth of its parameters, and a bias; set the budget to 0.1.")
            setting, _ = KINDS[kind].bounds(layer.dense)
        else:
            setting, _ = within_budget(kind, layer.dense, int(layer.dense.params * share))
    except UserError as error:
        raise UserError(f"{layer.name}: {error}") from error
    return Replacement(layer.path, layer.dense, kind, setting)


def _within_total(layers: Sequence[ConvolutionLayer], kind: str, budget: int, total: int) -> tuple[Replacement, ...]:
    """Replacements with one share for all, the largest with which the whole network has at most `budget` parameters.

    total: parameters of the dense network. A layer that cannot be as small as its share is as small as it can be.
    """
    rest = total - sum(one.dense.params for one in layers)
    least = {one.dense: _least(kind, one.dense) for one in layers}
    smallest = rest + sum(least[one.dense].substitute().params for one in layers)
    if smallest > budget:
        raise UserError(
            f"substitute.budget is {budget} parameters, but with {kind!r} this network has at least {smallest}."
        )

    @functools.cache
    def of_share(share: float) -> dict[Dense, Replacement]:
        made = {}
        for dense, minimum in least.items():
            limit = max(int(dense.params * share), minimum.substitute().params)
            made[dense] = minimum._replace(setting=within_budget(kind, dense, limit)[0])
        return made

    def excess(share: float) -> float:
        made = of_share(share)
        sizes = {dense: one.substitute().params for dense, one in made.items()}
        return rest + sum(sizes[one.dense] for one in layers) - budget - 0.5  # never zero: sizes are whole numbers

    share = 1.0 if excess(1.0) < 0 else 0.0
    if not share:
        share = float(np.asarray(bisect(excess, 0.0, 1.0, xtol=1e-7)))
        share = share if excess(share) < 0 else share - 2e-7  # the crossing lies between
    return tuple(of_share(share)[one.dense]._replace(path=one.path) for one in layers)


def _least(kind: str, dense: Dense) -> Replacement:
    """The smallest replacement of a layer, at no path yet."""
    ends = [Replacement((), dense, kind, setting) for setting in KINDS[kind].bounds(dense)]
    return min(ends, key=lambda one: one.substitute().params)


def _some(names: set[str]) -> str:
    shown = sorted(names)
    return ", ".join(shown[:12]) + (", ..." if len(shown) > 12 else "")
