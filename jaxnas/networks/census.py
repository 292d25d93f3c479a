"""Which convolutions a network has: found by tracing it once, without running or compiling anything."""

from math import prod
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxnas.core.types import PyTree
from jaxnas.layers.substitutes.kinds import Dense
from jaxnas.networks.binary_resnet import BinaryConvolution
from jaxnas.networks.cell_operations import Convolution
from jaxnas.networks.chain_operations import Pointwise


class ConvolutionLayer(NamedTuple):
    """A dense convolution of a network: its path of module names, its shape, and [height, width] of what it answers.

    binary: whether it multiplies signs.
    """

    path: tuple[str, ...]
    dense: Dense
    stride: int
    output: tuple[int, int]
    binary: bool

    @property
    def name(self) -> str:
        """The path as people write it, "group_1/block_1/convolution_1"."""
        return "/".join(self.path)

    @property
    def mult_adds(self) -> int:
        """For one image."""
        return self.dense.params * prod(self.output)


class Census(NamedTuple):
    """The variables of a network as shapes and types, and its dense convolutions in the order in which they run."""

    variables: PyTree
    convolutions: tuple[ConvolutionLayer, ...]


def census(network: nn.Module, image_shape: tuple[int, int, int]) -> Census:
    """Counts a network out on one image [height, width, channels]; convolutions in groups are left out."""
    found: list[ConvolutionLayer] = []

    def record(call: Any, arguments: Any, keywords: Any, context: nn.module.InterceptorContext) -> Any:
        output = call(*arguments, **keywords)
        dense = dense_of(context.module, arguments[0]) if context.method_name == "__call__" else None
        if dense is not None:
            binary = isinstance(context.module, BinaryConvolution)
            stride = getattr(context.module, "stride", 1)
            found.append(ConvolutionLayer(tuple(context.module.path), dense, stride, output.shape[1:3], binary))
        return output

    image = jax.ShapeDtypeStruct((1, *image_shape), jnp.result_type(float))
    with nn.intercept_methods(record):
        variables = jax.eval_shape(lambda image: network.init(jax.random.key(0), image, train=False), image)
    return Census(variables, tuple(found))


def dense_of(module: nn.Module, images: Any) -> Dense | None:
    """The convolution that a module applies to images [b, h, w, in]; None where it is no dense one."""
    inputs = images.shape[-1]
    if isinstance(module, Convolution):
        return Dense(module.size, inputs, module.features, module.gain)
    if isinstance(module, BinaryConvolution):
        return Dense((module.size, module.size), inputs, module.features)
    if isinstance(module, Pointwise) and module.groups == 1:
        return Dense((1, 1), inputs, module.features)
    return None
