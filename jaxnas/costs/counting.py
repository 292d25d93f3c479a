"""Exact costs: parameters, and multiply-adds counted in the traced program."""

from collections.abc import Callable, Iterator, Mapping
from math import prod
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.core import ShapedArray
from jax.extend import core

from jaxnas.core.errors import UserError
from jaxnas.core.types import PyTree
from jaxnas.layers import backend


class Cost(NamedTuple):
    """Parameters (learned numbers), and multiply-adds of convolutions and linear layers for one image."""

    params: int
    mult_adds: int


def count_params(tree: PyTree) -> int:
    """Total number of elements of a tree of arrays, or of shapes as `jax.eval_shape` gives them."""
    return sum(prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def mult_adds(function: Callable[..., PyTree], *arguments: PyTree) -> int:
    """Counts the multiply-adds of every convolution and matrix product in function(*arguments), without running it.

    The arguments may be arrays or `jax.ShapeDtypeStruct`s. A loop counts as often as it runs, of the branches of a
    conditional the dearest counts. Convolutions count as such, whatever the layers' fast implementation would do, as
    long as `function` is not itself already compiled: pass it as it is, not under `jax.jit`.
    Raises UserError for multiply-adds inside a loop whose length is not known while tracing.
    """
    with backend.use("library"):
        # A new function each time: JAX would answer with an earlier trace of the same function.
        traced = jax.make_jaxpr(lambda *values: function(*values))(*arguments)
    return _in_program(traced.jaxpr)


def _in_program(program: core.Jaxpr) -> int:
    return sum(_in_equation(equation) for equation in program.eqns)


def _in_equation(equation: core.JaxprEqn) -> int:
    name, params = equation.primitive.name, equation.params
    if name in PRODUCTS:
        return prod(_shape(equation.outvars[0])) * PRODUCTS[name](equation)
    inside = [_in_program(program) for program in _programs(params)]
    if name == "while" and any(inside):
        raise UserError("multiply-adds inside a while loop cannot be counted, because its length is not known.")
    if name == "cond":
        return max(inside)
    return sum(inside) * (params["length"] if name == "scan" else 1)


def _programs(params: Mapping[str, Any]) -> Iterator[core.Jaxpr]:
    """The programs among the parameters of an operation: bodies, branches, what is called."""
    for value in params.values():
        for item in value if isinstance(value, tuple | list) else (value,):
            program = getattr(item, "jaxpr", item)  # a closed program holds an open one
            if isinstance(program, core.Jaxpr):
                yield program


def _shape(operand: core.Var | core.Literal) -> tuple[int, ...]:
    if not isinstance(operand.aval, ShapedArray):
        raise TypeError(f"an operand of a product is an array, not {operand.aval}.")
    return operand.aval.shape


def _per_convolved_output(equation: core.JaxprEqn) -> int:
    """Kernel positions times the input channels that one output channel sees (those of its group)."""
    _, in_channels, *spatial = equation.params["dimension_numbers"].rhs_spec
    shape = _shape(equation.invars[1])
    return shape[in_channels] * prod(shape[axis] for axis in spatial)


def _per_product_output(equation: core.JaxprEqn) -> int:
    (contracted, _), _ = equation.params["dimension_numbers"]
    shape = _shape(equation.invars[0])
    return prod(shape[axis] for axis in contracted)


# Multiply-adds for each element of the output.
PRODUCTS: Mapping[str, Callable[[core.JaxprEqn], int]] = {
    "conv_general_dilated": _per_convolved_output,
    "dot_general": _per_product_output,
}


def network_cost(network: nn.Module, image_shape: tuple[int, int, int]) -> Cost:
    """The cost of a stand-alone network, called as (images, train=False), on one image [height, width, channels].

    A piece of a network that is called in the same way is counted likewise, with or without parameters. Neither the
    running statistics nor, where there is one, the work of an auxiliary head counts, since it answers in training only;
    its parameters do. Raises UserError for images without pixels or channels.
    """
    if min(image_shape) < 1:
        raise UserError(f"images of shape {image_shape} have no pixels; height, width and channels are at least 1.")
    image = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)

    def initial(image: jax.Array) -> PyTree:
        return network.init(jax.random.key(0), image, train=False)

    def answer(variables: PyTree, image: jax.Array) -> PyTree:
        return network.apply(variables, image, train=False)

    variables = jax.eval_shape(initial, image)
    return Cost(count_params(variables.get("params", {})), mult_adds(answer, variables, image))
