"""A network that writes the weights of another: an architecture's encoding goes in, convolution kernels come out.

Source: SMASH (Brock et al. 2017, section 3.3), whose hypernetwork is a DenseNet (Huang et al. 2017) over the encoding,
with leaky ReLU, without biases and batch normalisation, its kernels divided by their norm. It departs from it in three
ways. It convolves one axis, the rows of the encoding, instead of the rows and the units of a row; a linear map that
rows of one shape share writes all units of a kernel at once. Beside the encoding it reads numbers of each row that are
learned, where the paper's are random and stay. And it keeps the size of what it writes by dividing each row's last
activations by their root mean square, not each kernel by its norm, so that the same holds before any mask.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxnas.core.errors import UserError
from jaxnas.core.keys import named
from jaxnas.core.types import Array, Key, Params
from jaxnas.layers.operations import init_weights

REACH = 3  # rows that a convolution sees at once
SLOPE = 0.02  # of the leaky ReLU below zero, as in the authors' code
TINY = 1e-12  # keeps norms away from zero


class Hypernetwork(NamedTuple):
    """A network that writes kernels, as two pure functions.

    init: key -> params.
    generate: (params, encoding float [rows, features]) -> a kernel [in, out] for every row. It works under jit, vmap
        and grad, and computes in the precision of its params.
    """

    init: Callable[[Key], Params]
    generate: Callable[[Params, Array], list[Array]]


def hypernetwork(features: int, kernels: Sequence[tuple[int, int]], *, hidden: int, depth: int) -> Hypernetwork:
    """The hypernetwork that reads `features` numbers of each row and writes kernels of these shapes [in, out].

    hidden: how many numbers each of its layers adds to a row, and from how many a kernel is a linear map; it has
    `hidden` weights for each weight of every distinct shape. depth: its layers that add numbers; one more gives those
    that the kernels are made of. Each is a convolution over three rows, so that the kernel of a row depends on `depth`
    + 1 neighbours to either side.
    Kernels begin with the variance that other kernels begin with (see `layers.operations.init_weights`): 1 / (3 · in).
    Raises UserError for no kernels and for settings below 1.
    """
    if not kernels:
        raise UserError("a hypernetwork has to write at least one kernel, but was given no shapes.")
    for name, value in (("features", features), ("hidden", hidden), ("depth", depth)):
        if value < 1:
            raise UserError(f"{name} of a hypernetwork is {value}, but has to be at least 1.")
    shapes = [(int(inputs), int(outputs)) for inputs, outputs in kernels]
    # The rows of each distinct shape, in the order in which the shapes appear.
    groups = {shape: [row for row, one in enumerate(shapes) if one == shape] for shape in shapes}

    def init(key: Key) -> Params:
        reads = [features + hidden * number for number in range(1, depth + 2)]
        layers = {f"layer_{number}": (REACH * read, hidden) for number, read in enumerate(reads)}
        heads = {head_name(shape): (hidden, math.prod(shape)) for shape in groups}
        rows = jax.random.normal(named(key, "rows"), (len(shapes), hidden))
        return {"rows": rows, **init_weights(named(key, "kernels"), layers | heads)}

    def generate(params: Params, encoding: Array) -> list[Array]:
        states = jnp.concatenate([params["rows"], encoding.astype(params["rows"].dtype)], axis=-1)
        for number in range(depth):
            states = jnp.concatenate([states, convolved(states, params[f"layer_{number}"], number > 0)], axis=-1)
        last = leaky_relu(convolved(states, params[f"layer_{depth}"], True))
        last = last * lax.rsqrt(jnp.mean(jnp.square(last), axis=-1, keepdims=True) + TINY)
        written: dict[int, Array] = {}
        for shape, rows in groups.items():
            flat = last[jnp.asarray(rows)] @ params[head_name(shape)] * shape[0] ** -0.5
            written |= dict(zip(rows, flat.reshape(len(rows), *shape), strict=True))
        return [written[row] for row in range(len(shapes))]

    return Hypernetwork(init, generate)


def head_name(shape: tuple[int, int]) -> str:
    """The name of the linear map that writes kernels of a shape [in, out]."""
    return f"kernel_{shape[0]}x{shape[1]}"


def leaky_relu(values: Array) -> Array:
    """Values as they are, those below zero times SLOPE."""
    return jax.nn.leaky_relu(values, SLOPE)


def convolved(states: Array, kernel: Array, activate: bool) -> Array:
    """A convolution along rows [rows, in], zeros beyond them, with a weight-normalised kernel [3 · in, out].

    The kernel is divided by its norm as a whole, as published, and multiplied by √out, which keeps the size of states.
    activate: whether it reads the states through the leaky ReLU, as all but the first do.
    """
    read = leaky_relu(states) if activate else states
    padded = jnp.pad(read, ((REACH // 2, REACH // 2), (0, 0)))
    windows = jnp.concatenate([padded[shift : shift + len(read)] for shift in range(REACH)], axis=-1)
    norm = lax.rsqrt(jnp.sum(jnp.square(kernel)) + TINY)
    return windows @ kernel * (norm * kernel.shape[-1] ** 0.5)
