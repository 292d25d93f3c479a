"""The variables of the stand-alone network of one architecture, cut out of an elastic supernet's weights."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict

from jaxnas.core.types import Architecture, Params, PyTree
from jaxnas.layers.operations import CONSTANTS
from jaxnas.networks.chain_supernet import Weights
from jaxnas.networks.elastic_sharing import Sharing, groups
from jaxnas.networks.mobilenet_v3 import block_name
from jaxnas.networks.superkernel_supernet import centre
from jaxnas.spaces.elastic import ConcreteBlock, Elastic, concrete, elastic_space, squeezed_channels
from jaxnas.spaces.space import encode


def extracted(plan: Elastic, sharing: Sharing, params: Params, architecture: Architecture) -> Mapping[str, PyTree]:
    """{"params", "batch_stats"} of the `MobileNetV3` of a concrete architecture, in the precision of the params.

    The running statistics are those that a network begins with. Raises UserError where the architecture's numbers do
    not fit the space.
    """
    space, blocks = elastic_space(plan), concrete(plan, architecture).blocks
    widest = sharing.weights(params["blocks"], encode(space, architecture))
    place = {number: (group.name, row) for group in groups(plan) for row, number in enumerate(group.numbers)}
    found: dict[str, Any] = {name: _whole(params[name]) for name in ("stem", "final")}
    found |= {name: params[name] for name in ("head", "classifier")}
    if "first" in params:
        found["first"] = _parts(params["first"])
    for block in blocks:
        group, row = place[block.number]
        own = _sliced(plan, block, widest[group], row)
        found[block_name(plan.layers[block.number])] = _parts(own)
    return {"params": found, "batch_stats": initial_statistics(found)}


def _sliced(plan: Elastic, block: ConcreteBlock, stacked: Weights, row: int) -> Weights:
    """The weights of one block among those of its group: the first channels, the taps of its kernel."""
    hidden, squeezed = slice(block.hidden), slice(squeezed_channels(plan, block.hidden))
    axes = {
        "expansion": (slice(None), hidden),
        "depthwise": (slice(None), slice(None), hidden),
        "squeeze": (hidden, squeezed),
        "excite": (squeezed, hidden),
        "projection": (hidden, slice(None)),
    }
    own = {
        part: {name: leaf[row][axes[part] if name == "kernel" else axes[part][-1]] for name, leaf in of.items()}
        for part, of in stacked.items()
    }
    return own | {"depthwise": own["depthwise"] | {"kernel": centre(own["depthwise"]["kernel"], block.kernel)}}


def _scaled(weights: Weights) -> dict[str, Any]:
    """The parameters of a Normalization."""
    return {"batch_norm": {"scale": weights["scale"], "bias": weights["shift"]}}


def _whole(weights: Weights) -> dict[str, Any]:
    """The parameters of a NormalizedConvolution."""
    kernel = weights["kernel"]
    dense = kernel if kernel.ndim == 4 else kernel[None, None]
    return {"convolution": {"kernel": dense}, "normalization": _scaled(weights)}


def _parts(weights: Weights) -> dict[str, Any]:
    """The parameters of a block whose convolutions and normalisations are modules beside one another."""
    found: dict[str, Any] = {}
    for part in ("expansion", "depthwise", "projection"):
        if part in weights:
            found[part] = {"kernel": weights[part]["kernel"]}
            found[f"{part}_normalization"] = _scaled(weights[part])
    if "squeeze" in weights:
        found["squeeze_excitation"] = {part: dict(weights[part]) for part in ("squeeze", "excite")}
    return found


def initial_statistics(params: Mapping[str, Any]) -> dict[str, Any]:
    """The running statistics that a network of these parameters begins with."""
    flat: dict[Any, Any] = dict(flatten_dict(params))
    scales = {path: leaf for path, leaf in flat.items() if path[-1] == "scale"}
    return unflatten_dict(
        {
            (*path[:-1], name): jnp.full_like(scale, CONSTANTS[name])
            for path, scale in scales.items()
            for name in ("mean", "var")
        }
    )
