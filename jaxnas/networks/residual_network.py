"""Residual networks: wide ones for small images (Zagoruyko & Komodakis 2016), bottlenecks for large ones.

Both are called as every stand-alone network, (images, train=..., drop_path_rate=...) -> (logits, None), and their
modules are named after what they are, so that layers can be kept, replaced and tapped by name: "stem", "group_1" ...,
the "shortcut" of a block, "classifier".
"""

import functools
from collections.abc import Callable

import jax.numpy as jnp
from flax import linen as nn

from jaxnas.core.errors import UserError
from jaxnas.core.types import Array
from jaxnas.layers.pooling import max_pool
from jaxnas.networks.cell_network import Rate
from jaxnas.networks.cell_operations import HE_GAIN, Convolution, Linear, Normalization
from jaxnas.networks.chain_operations import branch
from jaxnas.networks.repeated import run_blocks

# As the papers draw initial weights.
HeConvolution = functools.partial(Convolution, gain=HE_GAIN)


class PreactivatedBlock(nn.Module):
    """Normalise, ReLU, 3×3 convolution, twice; added to the input or, where the shape changes, to a 1×1 convolution.

    That convolution reads what the first one reads, as in the authors' code. Source: Zagoruyko & Komodakis 2016.
    """

    channels: int
    stride: int
    axis_name: str | None

    @nn.compact
    def __call__(self, images: Array, train: bool, drop_path_rate: Rate = 0.0) -> Array:
        """[b, h, w, in] -> [b, h / stride, w / stride, channels]."""

        def activated(inputs: Array, number: int) -> Array:
            return nn.relu(Normalization(self.axis_name, name=f"normalization_{number}")(inputs, train))

        read = activated(images, 1)
        hidden = HeConvolution(self.channels, (3, 3), self.stride, name="convolution_1")(read)
        hidden = HeConvolution(self.channels, (3, 3), name="convolution_2")(activated(hidden, 2))
        if self.stride > 1 or images.shape[-1] != self.channels:
            return HeConvolution(self.channels, (1, 1), self.stride, name="shortcut")(read) + hidden
        return images + branch(self, hidden, train, drop_path_rate)


class BottleneckBlock(nn.Module):
    """1×1, 3×3 and 1×1 convolutions, each normalised; the last has `expansion` times the channels; then ReLU.

    The stride is in the 3×3 convolution. Where the shape changes, the input passes a normalised 1×1 convolution.
    Source: He et al. 2016, in the form that torchvision made common.
    """

    channels: int
    expansion: int
    stride: int
    axis_name: str | None

    @nn.compact
    def __call__(self, images: Array, train: bool, drop_path_rate: Rate = 0.0) -> Array:
        """[b, h, w, in] -> [b, h / stride, w / stride, channels · expansion]."""

        def convolved(name: str, inputs: Array, features: int, size: int, stride: int) -> Array:
            hidden = HeConvolution(features, (size, size), stride, name=name)(inputs)
            return Normalization(self.axis_name, name=f"{name}_normalization")(hidden, train)

        features = self.channels * self.expansion
        hidden = nn.relu(convolved("convolution_1", images, self.channels, 1, 1))
        hidden = nn.relu(convolved("convolution_2", hidden, self.channels, 3, self.stride))
        hidden = convolved("convolution_3", hidden, features, 1, 1)
        if self.stride > 1 or images.shape[-1] != features:
            return nn.relu(convolved("shortcut", images, features, 1, self.stride) + hidden)
        return nn.relu(images + branch(self, hidden, train, drop_path_rate))


class Group(nn.Module):
    """Blocks of one width one after another, of which the first has the stride and may change the shape.

    make: (stride=..., axis_name=..., name=...) -> a block. recomputed: whether blocks run again on the way back.
    """

    make: Callable[..., nn.Module]
    depth: int
    stride: int
    axis_name: str | None
    recomputed: bool = False

    @nn.compact
    def __call__(self, images: Array, train: bool, drop_path_rate: Rate = 0.0) -> Array:
        """[b, h, w, in] -> [b, h / stride, w / stride, out]."""
        for number in range(1, self.depth + 1):
            stride = self.stride if number == 1 else 1
            block = self.make(stride=stride, axis_name=self.axis_name, name=f"block_{number}")
            images = run_blocks(
                self,
                [block],
                images,
                lambda block, images: block(images, train, drop_path_rate),
                looped=False,
                recomputed=self.recomputed,
            )
        return images


class WideResNet(nn.Module):
    """WRN-depth-width: a 3×3 stem of 16 channels, and three groups of 16, 32 and 64 times `width` channels.

    depth: 6 n + 4 for n blocks in each group. recomputed: whether blocks run again on the way back.
    Raises UserError for another depth, and fewer than one of anything.
    """

    depth: int
    width: int
    classes: int
    axis_name: str | None = None
    recomputed: bool = False

    def __post_init__(self) -> None:
        if self.depth < 10 or (self.depth - 4) % 6:
            nearest = max(10, 6 * round((self.depth - 4) / 6) + 4)
            raise UserError(f"the depth of a wide ResNet is 6 n + 4, not {self.depth}; the nearest is {nearest}.")
        check_positive(width=self.width, classes=self.classes)
        super().__post_init__()

    @nn.compact
    def __call__(self, images: Array, *, train: bool, drop_path_rate: Rate = 0.0) -> tuple[Array, None]:
        """Images [b, h, w, c] of any size -> (logits [b, classes], None)."""
        hidden = HeConvolution(16, (3, 3), name="stem")(images)
        for number, channels in enumerate((16, 32, 64), start=1):
            make = functools.partial(PreactivatedBlock, channels * self.width)
            stride = 1 if number == 1 else 2
            depth, name = (self.depth - 4) // 6, f"group_{number}"
            group = Group(make, depth, stride, self.axis_name, self.recomputed, name=name)
            hidden = group(hidden, train, drop_path_rate)
        hidden = nn.relu(Normalization(self.axis_name, name="normalization")(hidden, train))
        return Linear(self.classes, name="classifier")(jnp.mean(hidden, axis=(1, 2))), None


class BottleneckResNet(nn.Module):
    """A ResNet for large images: a 7×7 stem and a pool, of stride 2 both, then a group of bottlenecks for each depth.

    depths: blocks of each group. width: a factor of all channels within blocks; expansion: of those between them.
    ResNet-50 has depths (3, 4, 6, 3), width 1 and expansion 4. WRN-50-2 has the width 2 and the expansion 2, hence as
    many channels between blocks. Raises UserError for fewer than one of anything.
    """

    depths: tuple[int, ...]
    width: int
    expansion: int
    classes: int
    axis_name: str | None = None
    recomputed: bool = False

    def __post_init__(self) -> None:
        check_positive(
            width=self.width, expansion=self.expansion, classes=self.classes, depths=min(self.depths, default=0)
        )
        super().__post_init__()

    @nn.compact
    def __call__(self, images: Array, *, train: bool, drop_path_rate: Rate = 0.0) -> tuple[Array, None]:
        """Images [b, h, w, c] of any size -> (logits [b, classes], None)."""
        hidden = HeConvolution(64, (7, 7), 2, name="stem")(images)
        hidden = nn.relu(Normalization(self.axis_name, name="stem_normalization")(hidden, train))
        hidden = max_pool(hidden, stride=2, size=3)
        for number, depth in enumerate(self.depths, start=1):
            make = functools.partial(BottleneckBlock, 64 * 2 ** (number - 1) * self.width, self.expansion)
            stride = 1 if number == 1 else 2
            group = Group(make, depth, stride, self.axis_name, self.recomputed, name=f"group_{number}")
            hidden = group(hidden, train, drop_path_rate)
        return Linear(self.classes, name="classifier")(jnp.mean(hidden, axis=(1, 2))), None


def check_positive(**numbers: int) -> None:
    """Raises UserError, naming it, for a number of a network's settings that is below 1."""
    for name, number in numbers.items():
        if number < 1:
            raise UserError(f"a network needs at least 1 of {name}, not {number}.")
