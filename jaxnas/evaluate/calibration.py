"""Running statistics of weights that were trained elsewhere, such as those that a supernet's architectures share."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict
from jax import lax

from jaxnas.core.types import Array, PyTree


@functools.partial(jax.jit, static_argnums=0)
def calibrated(network: nn.Module, variables: PyTree, images: Array) -> PyTree:
    """The variables with the means over batches of what every batch normalisation sees in training mode.

    network: a stand-alone network without a device axis. images: [batches, b, h, w, c], normalised as the network is
    to read them. Every batch counts the same, as one of the means and (biased) variances; what the running statistics
    were does not matter. Once-for-All does so for every architecture that it judges (Cai et al. 2020); the parameters
    stay as they are.
    """
    params, statistics = variables["params"], variables["batch_stats"]
    momenta: dict[tuple[str, ...], float] = {}

    def record(call: Any, arguments: Any, keywords: Any, context: nn.module.InterceptorContext) -> Any:
        if isinstance(context.module, nn.BatchNorm):
            momenta[tuple(context.module.path)] = context.module.momentum
        return call(*arguments, **keywords)

    def add(total: PyTree, batch: Array) -> tuple[PyTree, None]:
        """What one step makes of statistics of zero is the batch's own, times the rest of the momentum."""
        empty = {"params": params, "batch_stats": jax.tree.map(jnp.zeros_like, statistics)}
        with nn.intercept_methods(record):
            _, found = network.apply(empty, batch, train=True, mutable=["batch_stats"])
        return jax.tree.map(jnp.add, total, found["batch_stats"]), None

    total, _ = lax.scan(add, jax.tree.map(jnp.zeros_like, statistics), images)
    flat: dict[Any, Any] = dict(flatten_dict(total))
    means = {path: leaf / (len(images) * (1 - momenta[path[:-1]])) for path, leaf in flat.items()}
    return {**variables, "batch_stats": unflatten_dict(means)}
