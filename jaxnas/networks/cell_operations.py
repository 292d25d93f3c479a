"""The operations of a stand-alone network as Linen modules, with learned scale and shift and running statistics.

They are those of DARTS's evaluation networks (Liu, Simonyan & Yang 2019) and of the cells found before it, and beside
them dense convolutions and larger pools. Every operation is called with (images, train). Convolutions start from
PyTorch's default, U(±1/√fan-in), and batch normalisation keeps running statistics in the `batch_stats` collection.
Unlike PyTorch, the running variance is that of the batch itself, without Bessel's correction.
"""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxnas.core.types import Array, Key
from jaxnas.layers.convolution import Padding, convolution, depthwise
from jaxnas.layers.pooling import avg_pool, max_pool
from jaxnas.relax.quantized import FULL, quantized_weights

# The variance of initial weights times their fan-in: PyTorch's default, and what keeps the variance through ReLU
# (He et al. 2015).
PYTORCH_GAIN, HE_GAIN = 1 / 3, 2.0


def uniform(fan_in: int, gain: float = PYTORCH_GAIN) -> Callable[..., Array]:
    """An initializer drawing from U(±√(3 gain / fan_in)), by default U(±1/√fan_in)."""
    bound = (3 * gain / fan_in) ** 0.5

    def init(key: Key, shape: tuple[int, ...]) -> Array:
        return jax.random.uniform(key, shape, minval=-bound, maxval=bound)

    return init


class Convolution(nn.Module):
    """A convolution without bias, kernel [height, width, in, out]; padding None keeps the size at stride 1.

    bits: of the kernel, see `relax.quantized.quantized_weights`. gain: of its initial weights, see `uniform`.
    """

    features: int
    size: tuple[int, int] = (1, 1)
    stride: int = 1
    padding: Padding | None = None
    bits: int = FULL
    gain: float = PYTORCH_GAIN

    @nn.compact
    def __call__(self, images: Array) -> Array:
        """[b, h, w, in] -> [b, h / stride, w / stride, features]."""
        shape = (*self.size, images.shape[-1], self.features)
        kernel = self.param("kernel", uniform(shape[0] * shape[1] * shape[2], self.gain), shape)
        return convolution(images, quantized_weights(kernel, self.bits), stride=self.stride, padding=self.padding)


class Depthwise(nn.Module):
    """A convolution of every channel by itself, without bias, kernel [size, size, channels]."""

    size: int
    stride: int = 1
    dilation: int = 1

    @nn.compact
    def __call__(self, images: Array) -> Array:
        """[b, h, w, c] -> [b, h / stride, w / stride, c]."""
        kernel = self.param("kernel", uniform(self.size**2), (self.size, self.size, images.shape[-1]))
        return depthwise(images, kernel, stride=self.stride, dilation=self.dilation)


class Linear(nn.Module):
    """A linear layer with bias, kernel [in, out]."""

    features: int

    @nn.compact
    def __call__(self, inputs: Array) -> Array:
        """[b, in] -> [b, features]."""
        init = uniform(inputs.shape[-1])
        kernel = self.param("kernel", init, (inputs.shape[-1], self.features))
        return inputs @ kernel + self.param("bias", init, (self.features,))


class Normalization(nn.Module):
    """Batch normalisation with scale and shift; axis_name shares the batch's statistics along that device axis."""

    axis_name: str | None

    @nn.compact
    def __call__(self, images: Array, train: bool) -> Array:
        """[b, h, w, c] -> [b, h, w, c], by the batch's statistics in training and by the running ones otherwise."""
        norm = nn.BatchNorm(
            momentum=0.9, epsilon=1e-5, axis_name=self.axis_name, use_fast_variance=False, name="batch_norm"
        )
        return norm(images, use_running_average=not train)


class Skip(nn.Module):
    """The identity."""

    def __call__(self, images: Array, train: bool) -> Array:
        """[b, h, w, c] unchanged."""
        del train
        return images


class Zero(nn.Module):
    """The absent edge."""

    stride: int

    def __call__(self, images: Array, train: bool) -> Array:
        """Zeros [b, h / stride, w / stride, c]."""
        del train
        return jnp.zeros_like(images[:, :: self.stride, :: self.stride])


class Pool(nn.Module):
    """Pooling by `function`, jaxnas.layers.pooling's max_pool or avg_pool, over size × size pixels."""

    function: Callable[..., Array]
    size: int
    stride: int

    def __call__(self, images: Array, train: bool) -> Array:
        """[b, h, w, c] -> [b, h / stride, w / stride, c]."""
        del train
        return self.function(images, stride=self.stride, size=self.size)


class DenseConvolutions(nn.Module):
    """ReLU, dense convolutions of these sizes one after another, normalise; the stride is in the last convolution."""

    sizes: tuple[int, ...]
    stride: int
    axis_name: str | None
    features: int | None = None  # None keeps the number of channels

    @nn.compact
    def __call__(self, images: Array, train: bool) -> Array:
        """[b, h, w, c] -> [b, h / stride, w / stride, features]."""
        features = self.features or images.shape[-1]
        hidden = nn.relu(images)
        for number, size in enumerate(self.sizes, start=1):
            stride = self.stride if number == len(self.sizes) else 1
            hidden = Convolution(features, (size, size), stride, name=f"convolution_{number}")(hidden)
        return Normalization(self.axis_name)(hidden, train)


class Projection(nn.Module):
    """ReLU, 1×1 convolution, normalise."""

    features: int
    axis_name: str | None

    @nn.compact
    def __call__(self, images: Array, train: bool) -> Array:
        """[b, h, w, c] -> [b, h, w, features]."""
        return Normalization(self.axis_name)(Convolution(self.features)(nn.relu(images)), train)


class FactorizedReduction(nn.Module):
    """ReLU, two 1×1 convolutions of stride 2, the second one pixel further, concatenated; normalise."""

    features: int  # even
    axis_name: str | None

    @nn.compact
    def __call__(self, images: Array, train: bool) -> Array:
        """[b, h, w, c] -> [b, h / 2, w / 2, features], odd sizes rounded up: a row and a column of zeros is added."""
        rectified = nn.relu(images)
        half = self.features // 2
        even = Convolution(half, stride=2, name="even")(rectified)
        shifted = jnp.pad(rectified, ((0, 0), *((0, size % 2) for size in images.shape[1:3]), (0, 0)))[:, 1:, 1:]
        odd = Convolution(half, stride=2, name="odd")(shifted)
        return Normalization(self.axis_name)(jnp.concatenate([even, odd], axis=-1), train)


class Separable(nn.Module):
    """ReLU, depthwise, pointwise, normalise; twice, with the stride in the first half."""

    size: int
    stride: int
    axis_name: str | None

    @nn.compact
    def __call__(self, images: Array, train: bool) -> Array:
        """[b, h, w, c] -> [b, h / stride, w / stride, c]."""
        for half, stride in enumerate((self.stride, 1), start=1):
            hidden = Depthwise(self.size, stride, name=f"depthwise_{half}")(nn.relu(images))
            hidden = Convolution(images.shape[-1], name=f"pointwise_{half}")(hidden)
            images = Normalization(self.axis_name, name=f"normalization_{half}")(hidden, train)
        return images


class Dilated(nn.Module):
    """ReLU, depthwise at dilation 2, pointwise, normalise."""

    size: int
    stride: int
    axis_name: str | None

    @nn.compact
    def __call__(self, images: Array, train: bool) -> Array:
        """[b, h, w, c] -> [b, h / stride, w / stride, c]."""
        hidden = Depthwise(self.size, self.stride, dilation=2, name="depthwise")(nn.relu(images))
        hidden = Convolution(images.shape[-1], name="pointwise")(hidden)
        return Normalization(self.axis_name)(hidden, train)


class RowsThenColumns(nn.Module):
    """ReLU, 1×size convolution along the rows, size×1 along the columns, normalise; each strides its own axis.

    The order is that of conv_7x1_1x7 in DARTS's published code, whatever the name says.
    """

    size: int
    stride: int
    axis_name: str | None

    @nn.compact
    def __call__(self, images: Array, train: bool) -> Array:
        """[b, h, w, c] -> [b, h / stride, w / stride, c]."""
        hidden = nn.relu(images)
        for name in ("rows", "columns"):
            # Every row is an image of height 1, so that the stride acts along it alone. Then the axes change places.
            rows = hidden.reshape(-1, 1, *hidden.shape[2:])
            rows = Convolution(images.shape[-1], (1, self.size), self.stride, name=name)(rows)
            hidden = rows.reshape(*hidden.shape[:2], *rows.shape[2:]).swapaxes(1, 2)
        return Normalization(self.axis_name)(hidden, train)


def _skip_connect(channels: int, stride: int, axis_name: str | None, name: str) -> nn.Module:
    return Skip(name=name) if stride == 1 else FactorizedReduction(channels, axis_name, name=name)


Factory = Callable[[int, int, str | None, str], nn.Module]  # (channels, stride, axis_name, name)


def _sized(kind: Callable[..., nn.Module], size: int) -> Factory:
    return lambda channels, stride, axis_name, name: kind(size, stride, axis_name, name=name)


def _pool(function: Callable[..., Array], size: int) -> Factory:
    return lambda channels, stride, axis_name, name: Pool(function, size, stride, name=name)


def _dense(*sizes: int) -> Factory:
    return lambda channels, stride, axis_name, name: DenseConvolutions(sizes, stride, axis_name, name=name)


OPERATIONS: Mapping[str, Factory] = {
    "none": lambda channels, stride, axis_name, name: Zero(stride, name=name),
    **{f"max_pool_{size}x{size}": _pool(max_pool, size) for size in (3, 5, 7)},
    **{f"avg_pool_{size}x{size}": _pool(avg_pool, size) for size in (3, 5, 7)},
    "skip_connect": _skip_connect,
    "sep_conv_3x3": _sized(Separable, 3),
    "sep_conv_5x5": _sized(Separable, 5),
    "sep_conv_7x7": _sized(Separable, 7),
    "dil_conv_3x3": _sized(Dilated, 3),
    "dil_conv_5x5": _sized(Dilated, 5),
    "conv 1x1": _dense(1),
    "conv 3x3": _dense(3),
    "conv_1x1_3x3": _dense(1, 3),
    "conv_3x1_1x3": _sized(RowsThenColumns, 3),
    "conv_7x1_1x7": _sized(RowsThenColumns, 7),
}
