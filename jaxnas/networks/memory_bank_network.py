"""The stand-alone network of an architecture of SMASH's memory-bank space (Brock et al. 2017, section 3.1).

Stem, blocks whose operations read and write banks of channels, a transition between blocks as in DenseNet, classifier.
It is the one that the search trains as a part of its supernet; what the authors train at last is wider and deeper.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxnas.core.errors import UserError
from jaxnas.core.types import Array
from jaxnas.layers.convolution import convolution
from jaxnas.networks.cell_network import Rate
from jaxnas.networks.cell_operations import Linear, Normalization, uniform
from jaxnas.networks.chain_operations import NormalizedConvolution, Pointwise, branch
from jaxnas.spaces.memory_banks import BankOperation


class DilatedConvolution(nn.Module):
    """A convolution without bias, kernel [size, size, in, features], whose pixels are `dilation` apart."""

    features: int
    size: int
    dilation: int

    @nn.compact
    def __call__(self, images: Array) -> Array:
        """[b, h, w, in] -> [b, h, w, features]."""
        shape = (self.size, self.size, images.shape[-1], self.features)
        kernel = self.param("kernel", uniform(self.size**2 * images.shape[-1]), shape)
        return convolution(images, kernel, dilation=self.dilation)


class ReadBanks(nn.Module):
    """The first half of an operation: 1×1 convolution of all channels that it reads, normalise, ReLU."""

    hidden: int
    axis_name: str | None = None

    @nn.compact
    def __call__(self, images: Array, train: bool) -> Array:
        """[b, h, w, channels of all banks read] -> [b, h, w, hidden]."""
        hidden = Pointwise(self.hidden, name="convolution")(images)
        return nn.relu(Normalization(self.axis_name, name="normalization")(hidden, train))


class WrittenBank(nn.Module):
    """The second half of an operation: k×k convolution, normalise; what is added to every bank that it writes."""

    channels: int
    kernel: int
    dilation: int
    axis_name: str | None = None

    @nn.compact
    def __call__(self, images: Array, train: bool) -> Array:
        """[b, h, w, hidden] -> [b, h, w, channels]."""
        output = DilatedConvolution(self.channels, self.kernel, self.dilation, name="convolution")(images)
        return Normalization(self.axis_name, name="normalization")(output, train)


class Transition(nn.Module):
    """Normalise, ReLU, 1×1 convolution, mean over 2×2 pixels."""

    features: int
    axis_name: str | None

    @nn.compact
    def __call__(self, images: Array, train: bool) -> Array:
        """[b, h, w, c] -> [b, h / 2, w / 2, features], for an even height and width."""
        hidden = nn.relu(Normalization(self.axis_name, name="normalization")(images, train))
        return halved(Pointwise(self.features, name="convolution")(hidden))


class MemoryBankNetwork(nn.Module):
    """The network of these operations, block by block.

    banks, filled, bank_channels: see `spaces.memory_banks.MemoryBanks`. classes: number of logits.
    axis_name: the device axis over which batch statistics are shared, None to keep them per device.
    """

    blocks: tuple[tuple[BankOperation, ...], ...]
    banks: int
    filled: int
    bank_channels: tuple[int, ...]
    classes: int
    axis_name: str | None = None

    @nn.compact
    def __call__(self, images: Array, *, train: bool, drop_path_rate: Rate = 0.0) -> tuple[Array, None]:
        """Images [b, h, w, c] -> (logits [b, classes], None): there is no auxiliary head.

        In training the collection `batch_stats` is updated, and with a drop_path_rate other than the number 0 what
        operations write is dropped for whole examples, with the stream "drop_path".
        Raises UserError for images whose height or width cannot be halved between blocks.
        """
        check_halvings(images.shape[1:3], len(self.blocks))
        stem = NormalizedConvolution(self.filled * self.bank_channels[0], 3, 1, None, self.axis_name, name="stem")
        entered = stem(images, train)
        held: list[Array] = []
        for number, (operations, channels) in enumerate(zip(self.blocks, self.bank_channels, strict=True), start=1):
            if number > 1:
                transition = Transition(self.filled * channels, self.axis_name, name=f"transition_{number - 1}")
                entered = transition(jnp.concatenate(held, axis=-1), train)
            first = jnp.split(entered, self.filled, axis=-1)
            held = first + [jnp.zeros_like(first[0])] * (self.banks - self.filled)
            for place, one in enumerate(operations, start=1):
                name = f"block_{number}_operation_{place}"
                hidden = jnp.concatenate([held[bank] for bank in one.reads], axis=-1)
                hidden = ReadBanks(one.hidden, self.axis_name, name=f"{name}_read")(hidden, train)
                write = WrittenBank(channels, one.kernel, one.dilation, self.axis_name, name=f"{name}_write")
                output = branch(self, write(hidden, train), train, drop_path_rate)
                held = [bank + output if at in one.writes else bank for at, bank in enumerate(held)]
        last = Normalization(self.axis_name, name="normalization")(jnp.concatenate(held, axis=-1), train)
        return Linear(self.classes, name="classifier")(jnp.mean(jax.nn.relu(last), axis=(1, 2))), None


def halved(images: Array) -> Array:
    """The mean over squares of 2×2 pixels, [b, h, w, c] -> [b, h / 2, w / 2, c], for an even height and width."""
    batch, height, width, channels = images.shape
    return jnp.mean(images.reshape(batch, height // 2, 2, width // 2, 2, channels), axis=(2, 4))


def check_halvings(size: tuple[int, ...], blocks: int) -> None:
    """Raises UserError for images of (height, width) that cannot be halved between so many blocks."""
    unit = 2 ** (blocks - 1)
    if any(pixels % unit for pixels in size):
        raise UserError(
            f"images of {size[0]}x{size[1]} pixels cannot be halved {blocks - 1} times, which {blocks} blocks do; take "
            f"multiples of {unit}."
        )
