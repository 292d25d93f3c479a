"""The stand-alone network of an architecture of ENAS's macro space (Pham et al. 2018, section 2.3).

It is the one that the search trains as a part of its supernet: a layer's output is the sum of its operation's output
and of the states that it adds, normalised. The network that the authors train at last also doubles its channels after
every reduction and joins states by a 1×1 convolution instead. Normalisation is that of `networks.cell_operations`.
"""

from collections.abc import Callable, Mapping

import jax.numpy as jnp
from flax import linen as nn

from jaxnas.core.errors import UserError, choose
from jaxnas.core.types import Array
from jaxnas.layers.pooling import avg_pool, max_pool
from jaxnas.networks.cell_network import Rate, drop_path
from jaxnas.networks.cell_operations import Convolution, Depthwise, Linear, Normalization
from jaxnas.networks.chain_operations import NormalizedConvolution
from jaxnas.networks.nas_bench_201 import check_size
from jaxnas.spaces.enas_macro import FEWEST_LAYERS, OPERATIONS, MacroLayer, Operation, reductions

POOLS: Mapping[str, Callable[..., Array]] = {"max_pool": max_pool, "avg_pool": avg_pool}


class LayerOperation(nn.Module):
    """1×1 convolution, normalise, ReLU; then a pool, or a convolution, of each channel first if separable, and both."""

    operation: Operation
    axis_name: str | None = None

    @nn.compact
    def __call__(self, images: Array, train: bool) -> Array:
        """[b, h, w, c] -> [b, h, w, c]."""
        (kind, size), channels = self.operation, images.shape[-1]
        hidden = NormalizedConvolution(channels, 1, 1, "relu", self.axis_name, name="input")(images, train)
        if kind in POOLS:
            return POOLS[kind](hidden, stride=1, size=size)
        if kind == "sep_conv":
            hidden, size = Depthwise(size, name="depthwise")(hidden), 1
        return NormalizedConvolution(channels, size, 1, "relu", self.axis_name, name="output")(hidden, train)


class StateReduction(nn.Module):
    """Two 1×1 convolutions of stride 2, the second one pixel further, concatenated; normalise."""

    axis_name: str | None

    @nn.compact
    def __call__(self, images: Array, train: bool) -> Array:
        """[b, h, w, c] -> [b, h / 2, w / 2, c], for an even height, width and number of channels."""
        half = images.shape[-1] // 2
        even = Convolution(half, stride=2, name="even")(images)
        odd = Convolution(half, stride=2, name="odd")(images[:, 1:, 1:])
        return Normalization(self.axis_name, name="normalization")(jnp.concatenate([even, odd], axis=-1), train)


class MacroNetwork(nn.Module):
    """Stem, layers that each add states before their input, all states halved twice, classifier.

    layers: see `spaces.enas_macro.macro_layers`. channels: of all layers, an even number. classes: number of logits.
    axis_name: the device axis over which batch statistics are shared, None to keep them per device.
    Raises UserError for fewer than three layers, an unknown operation, a state that a layer cannot add, an odd number
    of channels, and fewer than one class.
    """

    layers: tuple[MacroLayer, ...]
    channels: int
    classes: int
    axis_name: str | None = None

    def __post_init__(self) -> None:
        if len(self.layers) < FEWEST_LAYERS:
            raise UserError(f"a network of three sizes needs at least {FEWEST_LAYERS} layers, not {len(self.layers)}.")
        for number, layer in enumerate(self.layers, start=1):
            choose(f"operation of layer {number}:", layer.operation, OPERATIONS)
            for state in layer.skips:
                if not 0 <= state < number - 1:
                    raise UserError(f"layer {number} adds state {state}, but can add only those below {number - 1}.")
        check_channels(self.channels)
        if self.classes < 1:
            raise UserError(f"a network needs at least 1 of classes, not {self.classes}.")
        super().__post_init__()

    @nn.compact
    def __call__(self, images: Array, *, train: bool, drop_path_rate: Rate = 0.0) -> tuple[Array, None]:
        """Images [b, h, w, c] -> (logits [b, classes], None): there is no auxiliary head.

        In training the collection `batch_stats` is updated, and a drop_path_rate other than the number 0, which ENAS
        has, drops operations beside the states that a layer adds, with the stream "drop_path".
        Raises UserError for images whose height or width cannot be halved twice.
        """
        check_size(images)
        drop = train and not (isinstance(drop_path_rate, int | float) and drop_path_rate == 0)
        stem = NormalizedConvolution(self.channels, 3, 1, None, self.axis_name, name="stem")
        states = [stem(images, train)]
        for number, layer in enumerate(self.layers, start=1):
            operation = LayerOperation(OPERATIONS[layer.operation], self.axis_name, name=f"layer_{number}_operation")
            hidden = operation(states[-1], train)
            if drop and layer.skips:
                hidden = drop_path(self, hidden, drop_path_rate)
            if number > 1:
                hidden = sum((states[state] for state in layer.skips), start=hidden)
                hidden = Normalization(self.axis_name, name=f"layer_{number}_normalization")(hidden, train)
            states.append(hidden)
            if number in reductions(len(self.layers)):
                names = [f"reduction_{number}_state_{state}" for state in range(len(states))]
                states = [
                    StateReduction(self.axis_name, name=name)(state, train)
                    for name, state in zip(names, states, strict=True)
                ]
        return Linear(self.classes, name="classifier")(jnp.mean(states[-1], axis=(1, 2))), None


def check_channels(channels: int) -> None:
    """Raises UserError for a number of channels of which a reduction cannot give one half to each convolution."""
    if channels < 2 or channels % 2:
        raise UserError(f"channels is {channels}, but has to be even; take {max(channels + channels % 2, 2)}.")
