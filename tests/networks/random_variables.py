"""Variables of networks around where trained ones are, for tests that compare whole networks."""

from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from jaxnas.networks.census import census


def random_variables(network: Any, image_shape: tuple[int, int, int], seed: int = 0) -> dict[str, Any]:
    """Parameters and running statistics that no two places share; scales and variances are above zero."""
    flat: dict[Any, Any] = dict(flatten_dict(census(network, image_shape).variables))
    generator = np.random.default_rng(seed)
    return unflatten_dict({path: _drawn(generator, path[-1], flat[path].shape) for path in flat})


def _drawn(generator: np.random.Generator, name: str, shape: tuple[int, ...]) -> Any:
    noise = generator.normal(size=shape)
    if name == "kernel":
        noise *= (2 / max(1, noise[..., 0].size)) ** 0.5
    else:
        noise = np.exp(0.3 * noise) if name in ("scale", "var") else 0.3 * noise
    return jax.device_put(noise.astype(np.float32))
