"""The XNOR-ResNet: weights and activations of the residual blocks are signs (Rastegari et al. 2016)."""

import jax.numpy as jnp
from flax import linen as nn

from jaxnas.core.errors import choose
from jaxnas.core.types import Array
from jaxnas.layers.convolution import convolution
from jaxnas.layers.pooling import avg_pool
from jaxnas.networks.cell_network import Rate
from jaxnas.networks.cell_operations import Convolution, Linear, Normalization, uniform
from jaxnas.networks.chain_operations import branch
from jaxnas.networks.repeated import run_blocks
from jaxnas.networks.residual_network import check_positive
from jaxnas.relax.binary import SURROGATES, stochastic_sign, straight_through

STOCHASTIC = "stochastic"  # beside the surrogates: signs drawn at random, as stochastic rounding does
GRADIENTS = (*SURROGATES, STOCHASTIC)


class BinaryConvolution(nn.Module):
    """A convolution of signs with signs, times the mean |w| of every output channel (Rastegari et al. 2016, eq. 6).

    gradient: how derivatives pass the signs of the activations: a name of `relax.binary.SURROGATES`, or "stochastic",
    which in training draws the signs by stochastic rounding (stream "signs") and rounds them to the nearest otherwise.
    The derivative for the weights passes their signs where |w| ≤ 1, and it passes the scale.
    """

    features: int
    size: int
    stride: int
    gradient: str

    @nn.compact
    def __call__(self, images: Array, train: bool) -> Array:
        """[b, h, w, in] -> [b, h / stride, w / stride, features]."""
        shape = (self.size, self.size, images.shape[-1], self.features)
        kernel = self.param("kernel", uniform(shape[0] * shape[1] * shape[2]), shape)
        if self.gradient != STOCHASTIC:
            signs = straight_through(self.gradient)(images)
        elif train:
            signs = stochastic_sign(self.make_rng("signs"), images)
        else:
            signs = straight_through()(images)
        scale = jnp.mean(jnp.abs(kernel), axis=(0, 1, 2))
        return convolution(signs, straight_through()(kernel) * scale, stride=self.stride)


class BinaryBlock(nn.Module):
    """Two binary convolutions, each normalised and with a shortcut of its own (Bi-Real Net, Liu et al. 2018).

    A shortcut that changes the shape is a mean over 3×3 pixels and a normalised 1×1 convolution in full precision.
    """

    channels: int
    stride: int
    gradient: str
    axis_name: str | None

    @nn.compact
    def __call__(self, images: Array, train: bool, drop_path_rate: Rate = 0.0) -> Array:
        """[b, h, w, in] -> [b, h / stride, w / stride, channels]."""
        for number, stride in enumerate((self.stride, 1), start=1):
            convolve = BinaryConvolution(self.channels, 3, stride, self.gradient, name=f"binary_{number}")
            hidden = Normalization(self.axis_name, name=f"normalization_{number}")(convolve(images, train), train)
            if hidden.shape == images.shape:
                images = images + branch(self, hidden, train, drop_path_rate)
                continue
            shortcut = avg_pool(images, stride=2, size=3) if stride == 2 else images
            shortcut = Convolution(self.channels, name="shortcut")(shortcut)
            images = Normalization(self.axis_name, name="shortcut_normalization")(shortcut, train) + hidden
        return images


class XnorResNet(nn.Module):
    """ResNet-18 for small images with binary blocks; stem, shortcuts that change shapes and classifier are not binary.

    width: channels of the stem and of the first group; every further group has twice as many and half the size.
    gradient: see `BinaryConvolution`. recomputed: whether blocks run again on the way back.
    Raises UserError for an unknown gradient, and fewer than one of anything.
    """

    width: int
    classes: int
    gradient: str = "clipped"
    axis_name: str | None = None
    depths: tuple[int, ...] = (2, 2, 2, 2)
    recomputed: bool = False

    def __post_init__(self) -> None:
        choose("gradient through signs", self.gradient, dict.fromkeys(GRADIENTS))
        check_positive(width=self.width, classes=self.classes, depths=min(self.depths, default=0))
        super().__post_init__()

    @nn.compact
    def __call__(self, images: Array, *, train: bool, drop_path_rate: Rate = 0.0) -> tuple[Array, None]:
        """Images [b, h, w, c] of any size -> (logits [b, classes], None)."""
        hidden = Convolution(self.width, (3, 3), name="stem")(images)
        hidden = Normalization(self.axis_name, name="stem_normalization")(hidden, train)
        for group, depth in enumerate(self.depths):
            for block in range(depth):
                stride = 2 if group and not block else 1
                name = f"group_{group + 1}_block_{block + 1}"
                module = BinaryBlock(self.width * 2**group, stride, self.gradient, self.axis_name, name=name)
                hidden = run_blocks(
                    self,
                    [module],
                    hidden,
                    lambda module, hidden: module(hidden, train, drop_path_rate),
                    looped=False,
                    recomputed=self.recomputed,
                )
        return Linear(self.classes, name="classifier")(jnp.mean(nn.relu(hidden), axis=(1, 2))), None
