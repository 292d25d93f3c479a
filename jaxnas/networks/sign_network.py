"""Fully connected networks with sign activations, as pure functions of a tuple of weights.

params is a tuple of layers {'kernel': [in, out]}, with 'bias': [out] where there is one. Every layer but the last is
followed by an activation. Outputs are [batch, out]; targets are [batch, out], or [batch] for a single output.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxnas.core.errors import UserError
from jaxnas.core.keys import at_step
from jaxnas.core.types import Array, Key, Params
from jaxnas.relax.binary import Activation, sign, straight_through

NO_NETWORK = "params must be a tuple of layers {'kernel': [in, out]}, with 'bias': [out] where there is one."


def init(key: Key, widths: Sequence[int], bias: bool = True) -> Params:
    """Weights U(±1/√fan-in) for layers widths[0] -> widths[1] -> ...; bias: whether layers have one."""

    def layer(number: int, fan_in: int, out: int) -> dict[str, Array]:
        shapes = {"kernel": (fan_in, out)} | ({"bias": (out,)} if bias else {})
        keys = jax.random.split(at_step(key, "layer", number), len(shapes))
        draws = zip(keys, shapes.items(), strict=True)
        return {
            name: jax.random.uniform(one, shape, minval=-(fan_in**-0.5), maxval=fan_in**-0.5)
            for one, (name, shape) in draws
        }

    return tuple(layer(number, *pair) for number, pair in enumerate(itertools.pairwise(widths)))


def apply(
    params: Params, x: Array, activation: Activation | Sequence[Activation] = sign, *, binary_weights: bool = False
) -> Array:
    """Outputs [batch, out] for inputs [batch, in].

    Args:
      params, x: see above.
      activation: of all hidden layers, or one for each of them: (sign, jax.nn.relu) makes the first binary only.
      binary_weights: kernels act by their signs, the vanilla STE through them.

    Raises UserError for another number of activations than of hidden layers.
    """
    hidden = len(params) - 1
    activations = tuple(activation) if isinstance(activation, Sequence) else (activation,) * hidden
    if len(activations) != hidden:
        raise UserError(f"there must be an activation for each of {hidden} hidden layers, not {len(activations)}.")
    for number, layer in enumerate(params):
        kernel = straight_through("clipped")(layer["kernel"]) if binary_weights else layer["kernel"]
        x = x @ kernel
        x = x + layer["bias"] if "bias" in layer else x
        x = activations[number](x) if number < hidden else x
    return x


def loss(params: Params, x: Array, y: Array, activation: Activation | Sequence[Activation] = sign) -> Array:
    """The mean over batch and outputs of (output - target)²; raises UserError for shapes that do not fit."""
    x, y = jnp.asarray(x), jnp.asarray(y)
    check_shapes(params, x, y)
    outputs = apply(params, x, activation)
    return jnp.mean((outputs - y.reshape(outputs.shape)) ** 2)


def checked(params: Params, x: Any, y: Any) -> tuple[Params, Any, Any]:
    """params as a tuple of layers of arrays, x and y as arrays of floats; see `check` for what is refused beside.

    Raises UserError for what is traced, no network, not numbers, or weights that are not floats of one type.
    """
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((params, x, y))):
        raise UserError("params, x and y must have values here; inside jit, vmap and scan use lab.estimator instead.")
    if not isinstance(params, tuple | list) or not all(isinstance(layer, Mapping) for layer in params):
        raise UserError(NO_NETWORK)
    layers = tuple({name: _numbers("params", leaf) for name, leaf in layer.items()} for layer in params)
    types = {leaf.dtype for leaf in jax.tree.leaves(layers)}
    if len(types) > 1 or not all(jnp.issubdtype(one, jnp.floating) for one in types):
        raise UserError(f"params must be floats of one type, not {' and '.join(sorted(map(str, types)))}.")
    x, y = _numbers("x", x), _numbers("y", y)
    check(layers, x, y)
    (weights,) = types
    x, y = (each if jnp.issubdtype(each.dtype, jnp.floating) else each.astype(weights) for each in (x, y))
    return layers, x, y


def check(params: Params, x: Array, y: Array) -> None:
    """Raises UserError unless params is a network, x and y fit it, and all of them are finite."""
    check_shapes(params, x, y)
    for name, tree in (("params", params), ("x", x), ("y", y)):
        if not all(np.isfinite(np.asarray(leaf)).all() for leaf in jax.tree.leaves(tree)):
            raise UserError(f"{name} holds numbers that are not finite.")


def _numbers(name: str, given: Any) -> Array | np.ndarray:
    """An array of real numbers, as it is or made from lists; raises UserError for anything else."""
    try:
        array = given if isinstance(given, jax.Array) else np.asarray(given)
    except ValueError:
        array = np.asarray(None)
    if not any(jnp.issubdtype(array.dtype, kind) for kind in (jnp.floating, jnp.integer, jnp.bool_)):
        raise UserError(f"{name} must be an array of real numbers.")
    return array


def check_shapes(params: Params, x: Array, y: Array) -> None:
    """Raises UserError unless params is a network and x and y fit it; for traced arrays, too."""
    if not isinstance(params, tuple | list) or not params or not all("kernel" in layer for layer in params):
        raise UserError(NO_NETWORK)
    for number, layer in enumerate(params):
        unknown = set(layer) - {"kernel", "bias"}
        if unknown:
            raise UserError(f"layer {number} has the entry {min(unknown)!r}; layers hold 'kernel' and perhaps 'bias'.")
        if layer["kernel"].ndim != 2:
            raise UserError(
                f"the kernel of layer {number} must be [in, out], but its shape is {layer['kernel'].shape}."
            )
        if "bias" in layer and layer["bias"].shape != layer["kernel"].shape[1:]:
            wanted = layer["kernel"].shape[1:]
            raise UserError(f"the bias of layer {number} must have the shape {wanted}, not {layer['bias'].shape}.")
    for number, (before, after) in enumerate(itertools.pairwise(params)):
        if before["kernel"].shape[1] != after["kernel"].shape[0]:
            raise UserError(
                f"layer {number} has {before['kernel'].shape[1]} outputs but layer {number + 1} takes "
                f"{after['kernel'].shape[0]} inputs; both must be the same."
            )
    width, outputs = params[0]["kernel"].shape[0], params[-1]["kernel"].shape[1]
    if x.ndim != 2 or x.shape[1] != width or not len(x):
        raise UserError(f"x must be [batch, {width}] with at least one example, but its shape is {x.shape}.")
    if y.shape not in ((len(x), outputs), *([(len(x),)] if outputs == 1 else [])):
        raise UserError(f"y must be [{len(x)}, {outputs}], one target an output, but its shape is {y.shape}.")
