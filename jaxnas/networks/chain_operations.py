"""The blocks of chains as Linen modules, with learned scale and shift and running statistics.

Every block is called with (images, train), and with a third argument where its residual branch may be dropped. Weights
start and statistics run as in `networks.cell_operations`.
"""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxnas.core.types import Array
from jaxnas.layers.convolution import channel_shuffle, grouped_pointwise
from jaxnas.layers.operations import CONSTANTS
from jaxnas.networks.cell_network import Rate, drop_path
from jaxnas.networks.cell_operations import Convolution, Depthwise, Linear, Normalization, Skip, uniform
from jaxnas.relax.quantized import FULL, quantized_activations
from jaxnas.spaces.block import Block
from jaxnas.spaces.chain import Chain, Layer

ACTIVATIONS: Mapping[str, Callable[[Array], Array]] = {
    "relu": jax.nn.relu,
    "relu6": jax.nn.relu6,
    "hard_swish": jax.nn.hard_swish,
}


class Pointwise(nn.Module):
    """A 1×1 convolution without bias in groups, kernel [in / groups, features]."""

    features: int
    groups: int = 1

    @nn.compact
    def __call__(self, images: Array) -> Array:
        """[b, h, w, in] -> [b, h, w, features]."""
        channels = images.shape[-1] // self.groups
        kernel = self.param("kernel", uniform(channels), (channels, self.features))
        return grouped_pointwise(images, kernel, self.groups)


class SqueezeExcitation(nn.Module):
    """Scales every channel by a gate between 0 and 1, which two linear layers compute from all channels' means.

    squeezed: channels between the two. gate: what the second layer ends in. Source: Hu, Shen & Sun 2018, placed as
    MnasNet has it (Tan et al. 2019).
    """

    squeezed: int
    activation: str
    gate: Callable[[Array], Array] = jax.nn.sigmoid

    @nn.compact
    def __call__(self, images: Array) -> Array:
        """[b, h, w, c] -> [b, h, w, c]."""
        means = jnp.mean(images, axis=(1, 2))
        hidden = ACTIVATIONS[self.activation](Linear(self.squeezed, name="squeeze")(means))
        return images * self.gate(Linear(images.shape[-1], name="excite")(hidden))[:, None, None]


class MBConv(nn.Module):
    """Pointwise expansion, depthwise, linear pointwise projection; added to its input where the shape is the same.

    block: of kind "mbconv" or "separable". expand: whether there is an expansion, which a separable block lacks.
    Every convolution is normalised, all but the last are activated; squeeze-and-excitation comes after the depthwise
    one. Pointwise convolutions in groups are followed by a channel shuffle, once, after the expansion.
    Source: MobileNetV2 (Sandler et al. 2018), with the extensions of FBNet (Wu et al. 2019) and MnasNet.
    """

    block: Block
    channels: int
    stride: int
    activation: str
    expand: bool
    axis_name: str | None

    @nn.compact
    def __call__(self, images: Array, train: bool, drop_path_rate: Rate = 0.0) -> Array:
        """[b, h, w, in] -> [b, h / stride, w / stride, channels].

        In training, with a drop_path_rate other than the number 0, the branch beside a residual is dropped for whole
        examples (stochastic depth), which draws from the stream "drop_path".
        """
        block, channels_in = self.block, images.shape[-1]
        activate = ACTIVATIONS[self.activation]
        hidden = images
        if self.expand:
            hidden = Pointwise(block.hidden(channels_in), block.groups, name="expansion")(hidden)
            hidden = activate(Normalization(self.axis_name, name="expansion_normalization")(hidden, train))
            hidden = channel_shuffle(hidden, block.groups)
        hidden = Depthwise(block.kernel, self.stride, name="depthwise")(hidden)
        hidden = activate(Normalization(self.axis_name, name="depthwise_normalization")(hidden, train))
        if block.squeeze:
            squeezed = block.squeezed(channels_in)
            hidden = SqueezeExcitation(squeezed, self.activation, name="squeeze_excitation")(hidden)
        hidden = Pointwise(self.channels, block.groups, name="projection")(hidden)
        hidden = Normalization(self.axis_name, name="projection_normalization")(hidden, train)
        if self.stride > 1 or channels_in != self.channels:
            return hidden
        return images + branch(self, hidden, train, drop_path_rate)


def branch(module: nn.Module, hidden: Array, train: bool, rate: Rate) -> Array:
    """What is added to a block's input: hidden [b, ...], in training dropped for whole examples at a rate above 0."""
    if not train or (isinstance(rate, int | float) and rate == 0):
        return hidden
    return drop_path(module, hidden, rate)


class NormalizedConvolution(nn.Module):
    """A convolution, normalised and, unless activation is None, activated: stem, head, and identities that reshape.

    bits: of the kernel.
    """

    features: int
    size: int
    stride: int
    activation: str | None
    axis_name: str | None
    bits: int = FULL

    @nn.compact
    def __call__(self, images: Array, train: bool) -> Array:
        """[b, h, w, c] -> [b, h / stride, w / stride, features]."""
        size = self.size, self.size
        hidden = Convolution(self.features, size, self.stride, bits=self.bits, name="convolution")(images)
        hidden = Normalization(self.axis_name, name="normalization")(hidden, train)
        return hidden if self.activation is None else ACTIVATIONS[self.activation](hidden)


class ClippedActivation(nn.Module):
    """Activations of so many bits between 0 and a level [1] that is learned, "clip" (PACT, Choi et al. 2018)."""

    bits: int

    @nn.compact
    def __call__(self, images: Array) -> Array:
        """[b, h, w, c] -> [b, h, w, c]."""
        clip = self.param("clip", jax.nn.initializers.constant(CONSTANTS["clip"]), (1,))
        return quantized_activations(images, clip, self.bits)


class Residual(nn.Module):
    """Two 3×3 convolutions, added to the input or, where the shape changes, to a 1×1 convolution of it; activated.

    block: of kind "residual". Every convolution is normalised, the first of the two is activated. In a quantised block
    all three have weights of block.bits[0] bits and read activations of block.bits[1] bits: the block's input, whose
    negative values are lost, and the activation between the two, each with a clipping level of its own.
    Source: ResNet (He et al. 2016), as Single Path One-Shot quantises it (Guo et al. 2020, section 4.3).
    """

    block: Block
    channels: int
    stride: int
    activation: str
    axis_name: str | None

    @nn.compact
    def __call__(self, images: Array, train: bool, drop_path_rate: Rate = 0.0) -> Array:
        """[b, h, w, in] -> [b, h / stride, w / stride, channels]; for the drop_path_rate, see `MBConv`."""
        activate = ACTIVATIONS[self.activation]
        weight_bits, activation_bits = self.block.bits

        def convolved(name: str, inputs: Array, size: int, stride: int) -> Array:
            module = NormalizedConvolution(self.channels, size, stride, None, self.axis_name, weight_bits, name=name)
            return module(inputs, train)

        read = ClippedActivation(activation_bits, name="input")(images) if self.block.quantized else images
        hidden = convolved("convolution_1", read, self.block.kernel, self.stride)
        between = ClippedActivation(activation_bits, name="between") if self.block.quantized else activate
        hidden = convolved("convolution_2", between(hidden), self.block.kernel, 1)
        if self.stride > 1 or images.shape[-1] != self.channels:
            return activate(convolved("projection", read, 1, self.stride) + hidden)
        return activate(images + branch(self, hidden, train, drop_path_rate))


def has_expansion(plan: Chain, block: Block) -> bool:
    """Whether a block starts with a pointwise convolution: an mbconv does, unless its expansion is 1 and may go."""
    return block.kind == "mbconv" and (block.expansion != 1 or plan.expand_always)


def is_free(layer: Layer, block: Block) -> bool:
    """Whether a block is nothing but its input in this layer, so that it has neither weights nor multiply-adds."""
    return block.kind == "zero" or (block.kind == "identity" and layer.keeps_shape)


def block_module(
    plan: Chain, layer: Layer, block: Block, axis_name: str | None = None, name: str | None = None
) -> nn.Module:
    """The module of a block in one layer of a chain, called as (images [b, h, w, layer.channels_in], train)."""
    if is_free(layer, block):
        return Skip(name=name)
    if block.kind == "identity":
        activation = plan.activation if plan.identity_activation else None
        return NormalizedConvolution(layer.channels, 1, layer.stride, activation, axis_name, name=name)
    if block.kind == "residual":
        return Residual(block, layer.channels, layer.stride, plan.activation, axis_name, name=name)
    expand = has_expansion(plan, block)
    return MBConv(block, layer.channels, layer.stride, plan.activation, expand, axis_name, name=name)
