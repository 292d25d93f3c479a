"""The initial variables of stand-alone networks, drawn in a way that compiles fast."""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict

from jaxnas.core.keys import named
from jaxnas.core.types import Key, PyTree
from jaxnas.layers.operations import CONSTANTS, init_weights
from jaxnas.networks.cell_operations import PYTORCH_GAIN
from jaxnas.networks.census import census
from jaxnas.networks.substituted import SubstitutedNetwork


def init_variables(network: nn.Module, key: Key, image_shape: tuple[int, int, int]) -> PyTree:
    """{"params", "batch_stats"} distributed as by `network.init`, for images of [height, width, channels].

    All kernels come from one draw. `network.init` draws each by itself, which takes longer to compile than the network.
    """
    counted = census(network, image_shape)
    flat: dict[tuple[str, ...], Any] = dict(flatten_dict(counted.variables))
    drawn: dict[tuple[str, ...], Any] = {}
    if isinstance(network, SubstitutedNetwork):
        for path, substitute in network.substitutes().items():
            weights = substitute.init(named(key, "/".join(path)))
            drawn |= {("params", *path, name): leaf for name, leaf in weights.items()}
    kernels = {path: leaf.shape for path, leaf in flat.items() if path[-1] == "kernel" and path not in drawn}
    gains = {("params", *one.path, "kernel"): one.dense.gain for one in counted.convolutions}
    for path, kernel in init_weights(named(key, "kernels"), kernels).items():
        drawn[path] = kernel * (gains.get(path, PYTORCH_GAIN) / PYTORCH_GAIN) ** 0.5
    for path, leaf in flat.items():
        kernel = (*path[:-1], "kernel")
        if path in drawn:
            continue
        if path[-1] == "bias" and kernel in kernels:  # of a linear layer, with its kernel's fan-in
            drawn[path] = init_weights(named(key, "/".join(path)), {"row": kernels[kernel]})["row"][0]
        else:
            drawn[path] = jnp.full(leaf.shape, CONSTANTS[path[-1]], leaf.dtype)
    return unflatten_dict(drawn)
