"""Small residual networks with sign activations for images, as pure functions of their weights.

Every convolution but the first has its own shortcut and takes the signs of what comes in, x + norm(convolve(sign(x)))
(Bi-Real Net, Liu et al. 2018). Normalisation is by the statistics of the batch at hand, so that the loss is a function
of weights and batch. params is {'stem': [3, 3, in, c], 'blocks': (...), 'head': {'kernel': [c, classes], 'bias':
[classes]}}; a block is {'kernel': [3, 3, in, out], 'scale': [out], 'bias': [out]} and, where it halves the image,
'shortcut': [1, 1, in, out].
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import optax

from jaxnas.core.keys import at_step, named
from jaxnas.core.types import Array, Key, Params
from jaxnas.layers.convolution import convolution
from jaxnas.layers.normalization import batch_norm
from jaxnas.relax.binary import sign, straight_through

Activation = Callable[[Array], Array]


def init(key: Key, inputs: int, classes: int, channels: Sequence[int] = (16, 32), blocks: int = 2) -> Params:
    """Weights for images with `inputs` channels: `blocks` blocks of every width, each width but the first at half size.

    Kernels are drawn from N(0, 2/fan-in) (He et al. 2015), the head from N(0, 1/fan-in).
    """

    def kernel(key: Key, *shape: int) -> Array:
        return jax.nn.initializers.he_normal()(key, shape)

    widths = [width for width in channels for _ in range(blocks)]
    made = []
    for number, (before, width) in enumerate(zip([channels[0], *widths], widths, strict=False)):
        own = at_step(key, "block", number)
        block = {"kernel": kernel(own, 3, 3, before, width), "scale": jnp.ones(width), "bias": jnp.zeros(width)}
        halves = number > 0 and number % blocks == 0
        made.append(block | ({"shortcut": kernel(named(own, "shortcut"), 1, 1, before, width)} if halves else {}))
    head = jax.nn.initializers.lecun_normal()(named(key, "head"), (widths[-1], classes))
    return {
        "stem": kernel(named(key, "stem"), 3, 3, inputs, channels[0]),
        "blocks": tuple(made),
        "head": {"kernel": head, "bias": jnp.zeros(classes)},
    }


def apply(params: Params, images: Array, activation: Activation = sign, *, binary_weights: bool = False) -> Array:
    """Class logits [batch, classes] for images [batch, height, width, channels].

    binary_weights: the blocks' kernels act by their signs, the vanilla STE through them (their scale is the norm's).
    """
    return after(params, before(params, images, 0, activation, binary_weights), 0, activation, binary_weights)


def before(params: Params, images: Array, block: int, activation: Activation, binary_weights: bool = False) -> Array:
    """What enters the block of that number, [batch, h, w, c]: it does not depend on the weights from there on."""
    values = batch_norm(convolution(images, params["stem"]))
    for one in params["blocks"][:block]:
        values = _block(one, values, activation, binary_weights)
    return values


def after(params: Params, values: Array, block: int, activation: Activation, binary_weights: bool = False) -> Array:
    """Class logits from what enters the block of that number: `apply` is `before`, then `after`."""
    for one in params["blocks"][block:]:
        values = _block(one, values, activation, binary_weights)
    return values.mean(axis=(1, 2)) @ params["head"]["kernel"] + params["head"]["bias"]


def _block(weights: Params, values: Array, activation: Activation, binary_weights: bool) -> Array:
    kernel = straight_through("clipped")(weights["kernel"]) if binary_weights else weights["kernel"]
    stride = 2 if "shortcut" in weights else 1
    shortcut = convolution(values, weights["shortcut"], stride=stride) if "shortcut" in weights else values
    convolved = batch_norm(convolution(activation(values), kernel, stride=stride))
    return shortcut + convolved * weights["scale"] + weights["bias"]


def cross_entropy(logits: Array, labels: Array) -> Array:
    """The mean cross-entropy of logits [batch, classes] and labels int [batch]."""
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
