"""What a stand-alone network is made of, in numbers: parameters, multiply-adds, binary ones apart, substitutes."""

from collections.abc import Mapping
from typing import Any

from flax import linen as nn

from jaxnas.costs.counting import network_cost
from jaxnas.networks.census import census
from jaxnas.networks.substituted import SubstitutedNetwork


def describe_network(network: nn.Module, image_shape: tuple[int, int, int]) -> dict[str, Any]:
    """{"params", "mult_adds"} of convolutions and linear layers for one image, the auxiliary head left out.

    With binary convolutions also {"binary_params", "binary_mult_adds"}, which the others include. With substitutes also
    {"dense_params"}, those of the network without them, and {"substitutes": an entry for every layer}.
    """
    plain = without_auxiliary(network)
    cost = network_cost(plain, image_shape)
    described: dict[str, Any] = {"params": cost.params, "mult_adds": cost.mult_adds}
    binary = [layer for layer in census(plain, image_shape).convolutions if layer.binary]
    if binary:
        described["binary_params"] = sum(layer.dense.params for layer in binary)
        described["binary_mult_adds"] = sum(layer.mult_adds for layer in binary)
    if isinstance(plain, SubstitutedNetwork):
        described["dense_params"] = network_cost(plain.network, image_shape).params
        described["substitutes"] = [_replaced(plain, number) for number in range(len(plain.replacements))]
    return described


def without_auxiliary(network: nn.Module) -> nn.Module:
    """The network without its auxiliary head, if it has one."""
    if isinstance(network, SubstitutedNetwork):
        return network.clone(network=without_auxiliary(network.network))
    return network.clone(auxiliary=False) if getattr(network, "auxiliary", False) else network


def _replaced(network: SubstitutedNetwork, number: int) -> Mapping[str, Any]:
    one = network.replacements[number]
    params = one.substitute().params
    return {
        "layer": "/".join(one.path),
        "kind": one.kind,
        "setting": one.setting,
        "params": params,
        "dense_params": one.dense.params,
    }
