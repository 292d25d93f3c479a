"""The stand-alone network of an elastic space: MobileNetV3 with the blocks of one architecture.

Sources: Howard et al. 2019, as Once-for-All builds it (Cai et al. 2020).
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxnas.core.errors import UserError
from jaxnas.core.types import Array
from jaxnas.layers.resizing import resized
from jaxnas.networks.cell_network import Rate
from jaxnas.networks.cell_operations import Depthwise, Linear, Normalization
from jaxnas.networks.chain_operations import (
    ACTIVATIONS,
    MBConv,
    NormalizedConvolution,
    Pointwise,
    SqueezeExcitation,
    branch,
)
from jaxnas.spaces.block import Block
from jaxnas.spaces.elastic import Concrete, Elastic, ElasticLayer, squeezed_channels

SMOOTH = "hard_swish"  # the activation outside of blocks


def adds_input(layer: ElasticLayer) -> bool:
    """Whether a block is added to what it reads: where it keeps the shape."""
    return layer.stride == 1 and layer.channels_in == layer.channels


def block_name(layer: ElasticLayer) -> str:
    """The name of a layer's block in the network's variables, "stage_1_block_1"."""
    return layer.name.replace(" ", "_")


class ElasticBlock(nn.Module):
    """The inverted bottleneck of layer `number` of a plan, with a kernel size and so many hidden channels.

    Pointwise expansion, depthwise convolution, squeeze-and-excitation where the layer has one, linear pointwise
    projection. Every convolution is normalised, all but the last are activated.
    """

    plan: Elastic
    number: int
    kernel: int
    hidden: int
    axis_name: str | None

    @nn.compact
    def __call__(self, images: Array, train: bool, drop_path_rate: Rate = 0.0) -> Array:
        """[b, h, w, in] -> [b, h / stride, w / stride, channels]; for the drop_path_rate, see `branch`."""
        layer = self.plan.layers[self.number]
        activate = ACTIVATIONS[layer.activation]
        hidden = Pointwise(self.hidden, name="expansion")(images)
        hidden = activate(Normalization(self.axis_name, name="expansion_normalization")(hidden, train))
        hidden = Depthwise(self.kernel, layer.stride, name="depthwise")(hidden)
        hidden = activate(Normalization(self.axis_name, name="depthwise_normalization")(hidden, train))
        if layer.squeeze:
            squeezed = squeezed_channels(self.plan, self.hidden)
            hidden = SqueezeExcitation(squeezed, "relu", jax.nn.hard_sigmoid, name="squeeze_excitation")(hidden)
        hidden = Pointwise(layer.channels, name="projection")(hidden)
        hidden = Normalization(self.axis_name, name="projection_normalization")(hidden, train)
        return images + branch(self, hidden, train, drop_path_rate) if adds_input(layer) else hidden


def first_block(plan: Elastic, axis_name: str | None, name: str | None = None) -> nn.Module:
    """The block after the stem that all architectures have: depthwise and pointwise, without an expansion."""
    return MBConv(Block("separable", kernel=3), plan.first, 1, "relu", False, axis_name, name=name)


class MobileNetV3(nn.Module):
    """One architecture of an elastic space (see `spaces.elastic.concrete`).

    classes: number of logits. axis_name: the device axis over which batch statistics are shared, None to keep them per
    device. Raises UserError for fewer than one class.
    """

    plan: Elastic
    concrete: Concrete
    classes: int
    axis_name: str | None = None

    def __post_init__(self) -> None:
        if self.classes < 1:
            raise UserError(f"a network needs at least 1 of classes, not {self.classes}.")
        super().__post_init__()

    @nn.compact
    def __call__(self, images: Array, *, train: bool, drop_path_rate: Rate = 0.0) -> tuple[Array, None]:
        """Images [b, h, w, c] of any size -> (logits [b, classes], None): there is no auxiliary head.

        Images of another size than the architecture's resolution are resized, which adds nothing to the multiply-adds
        of the network. In training the collection `batch_stats` is updated, and a drop_path_rate other than the number
        0 drops residual branches with the stream "drop_path" (one rate for all blocks).
        """
        plan = self.plan
        hidden = resized(images, self.concrete.resolution)
        stem = NormalizedConvolution(plan.stem, 3, plan.stem_stride, SMOOTH, self.axis_name, name="stem")
        hidden = stem(hidden, train)
        if plan.first:
            hidden = first_block(plan, self.axis_name, name="first")(hidden, train, drop_path_rate)
        for block in self.concrete.blocks:
            module = ElasticBlock(plan, *block, self.axis_name, name=block_name(plan.layers[block.number]))
            hidden = module(hidden, train, drop_path_rate)
        hidden = NormalizedConvolution(plan.final, 1, 1, SMOOTH, self.axis_name, name="final")(hidden, train)
        hidden = jnp.mean(hidden, axis=(1, 2), keepdims=True)
        hidden = ACTIVATIONS[SMOOTH](Pointwise(plan.head, name="head")(hidden))[:, 0, 0]
        return Linear(self.classes, name="classifier")(hidden), None
