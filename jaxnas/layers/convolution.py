"""Dense and depthwise convolutions that are fast on every backend, inside loops too.

Layout is NHWC for images and HWIO for kernels. Padding is symmetric, as in PyTorch, so that published networks can be
reproduced number for number. On the CPU the derivatives are written out: XLA:CPU runs a backward convolution inside a
loop 30 to 90 times slower than outside one unless it sees it in the canonical layout (jax issue 12868), and has no
usable grouped convolution at all.
"""

import functools
import math

import jax
import jax.numpy as jnp
from jax import lax

from jaxnas.core.types import Array
from jaxnas.layers import backend

Padding = tuple[tuple[int, int], tuple[int, int]]
LAYOUT = ("NHWC", "HWIO", "NHWC")
# How many blocks of a batch the kernel gradient adds up in one loop: more run faster and compile longer, so that small
# images, where a loop's start costs as much as the loop, get few.
BATCH_BLOCKS, FEW_BATCH_BLOCKS = 8, 2
SMALL = 2**16  # elements


def symmetric_padding(kernel: Array, dilation: int) -> Padding:
    """Padding that keeps the size at stride 1: dilation · (k - 1) / 2 on every side of a kernel [k, k, ...]."""
    height, width = (dilation * (size - 1) // 2 for size in kernel.shape[:2])
    return (height, height), (width, width)


def pointwise(images: Array, kernel: Array) -> Array:
    """A 1×1 convolution: images [..., in] times kernel [in, out], as one matrix product."""
    rows = images.reshape(-1, images.shape[-1]) @ kernel
    return rows.reshape(*images.shape[:-1], kernel.shape[-1])


def grouped_pointwise(images: Array, kernel: Array, groups: int) -> Array:
    """A 1×1 convolution in groups: images [..., in] times kernel [in / groups, out]; `groups` divides in and out.

    Outputs come in as many equal runs, of which each sees its own run of the inputs.
    """
    if groups == 1:
        return pointwise(images, kernel)
    # One matrix product for each group: a batched product transposes its operands and takes longer on the CPU.
    runs = zip(jnp.split(images, groups, axis=-1), jnp.split(kernel, groups, axis=-1), strict=True)
    return jnp.concatenate([pointwise(run, own) for run, own in runs], axis=-1)


def channel_shuffle(images: Array, groups: int) -> Array:
    """Deals the channels of images [..., c] out anew, so that each of the next groups has some of every last group.

    Source: ShuffleNet (Zhang et al. 2018). `groups` divides c.
    """
    dealt = images.reshape(*images.shape[:-1], groups, -1)
    return dealt.swapaxes(-1, -2).reshape(images.shape)


def convolution(
    images: Array, kernel: Array, *, stride: int = 1, dilation: int = 1, padding: Padding | None = None
) -> Array:
    """Convolves images [b, h, w, in] with kernel [kh, kw, in, out]; `padding` None is symmetric (PyTorch's "same")."""
    padding = padding or symmetric_padding(kernel, dilation)
    if kernel.shape[:2] == (1, 1) and padding == ((0, 0), (0, 0)):
        return pointwise(images[:, ::stride, ::stride], kernel[0, 0])
    if backend.implementation() == "library":
        return _library(images, kernel, stride, dilation, padding)
    return _canonical(images, kernel, stride, dilation, padding)


def depthwise(
    images: Array, kernel: Array, *, stride: int = 1, dilation: int = 1, padding: Padding | None = None
) -> Array:
    """Convolves every channel of images [b, h, w, c] with its own kernel [kh, kw, c]; `padding` as in `convolution`."""
    padding = padding or symmetric_padding(kernel, dilation)
    if backend.implementation() == "library":
        return _library(images, kernel[:, :, None], stride, dilation, padding, groups=images.shape[-1])
    return _shifted(images, kernel, stride, dilation, padding)


def _library(images: Array, kernel: Array, stride: int, dilation: int, padding: Padding, groups: int = 1) -> Array:
    return lax.conv_general_dilated(
        images,
        kernel,
        window_strides=(stride, stride),
        padding=padding,
        rhs_dilation=(dilation, dilation),
        dimension_numbers=LAYOUT,
        feature_group_count=groups,
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _canonical(images: Array, kernel: Array, stride: int, dilation: int, padding: Padding) -> Array:
    return _library(images, kernel, stride, dilation, padding)


def _canonical_forward(images, kernel, stride, dilation, padding):
    return _library(images, kernel, stride, dilation, padding), (images, kernel)


def _canonical_backward(stride, dilation, padding, residuals, cotangent):
    """Both derivatives as forward convolutions whose operands are transposed explicitly into NHWC and HWIO."""
    images, kernel = residuals
    sizes = images.shape[1:3]
    reach = [dilation * (k - 1) for k in kernel.shape[:2]]
    steps = [stride * (n - 1) for n in cotangent.shape[1:3]]
    flipped = jnp.transpose(jnp.flip(kernel, (0, 1)), (0, 1, 3, 2))
    images_bar = lax.conv_general_dilated(
        cotangent,
        flipped,
        window_strides=(1, 1),
        padding=[
            (r - low, size + low - 1 - n) for r, n, size, (low, _) in zip(reach, steps, sizes, padding, strict=True)
        ],
        lhs_dilation=(stride, stride),
        rhs_dilation=(dilation, dilation),
        dimension_numbers=LAYOUT,
    )
    # The kernel's derivative correlates images with cotangent: channels play the batch, the batch plays the channels.
    kernel_bar = lax.conv_general_dilated(
        jnp.transpose(images, (3, 1, 2, 0)),
        jnp.transpose(cotangent, (1, 2, 0, 3)),
        window_strides=(dilation, dilation),
        padding=[
            (low, r + n - low - size + 1) for r, n, size, (low, _) in zip(reach, steps, sizes, padding, strict=True)
        ],
        rhs_dilation=(stride, stride),
        dimension_numbers=LAYOUT,
    )
    return images_bar, jnp.transpose(kernel_bar, (1, 2, 0, 3))


_canonical.defvjp(_canonical_forward, _canonical_backward)


def shifted_view(padded: Array, row: int, column: int, height: int, width: int, stride: int) -> Array:
    """The window of padded [b, h, w, c] that one tap of a kernel sees: [b, height, width, c]."""
    return padded[
        :, row : row + (height - 1) * stride + 1 : stride, column : column + (width - 1) * stride + 1 : stride
    ]


# A compiled function of its own, so that the many slices inside are traced once per shape and not at every use.
@functools.partial(jax.jit, static_argnums=(2, 3, 4, 5))
def _taps(padded: Array, kernel: Array, dilation: int, stride: int, height: int, width: int) -> Array:
    """Σ over taps of a shifted view times that tap's channel weights: one fused elementwise loop on the CPU."""
    rows, columns = kernel.shape[:2]
    views = (
        shifted_view(padded, i * dilation, j * dilation, height, width, stride) * kernel[i, j]
        for i in range(rows)
        for j in range(columns)
    )
    return functools.reduce(jnp.add, views)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _shifted(images: Array, kernel: Array, stride: int, dilation: int, padding: Padding) -> Array:
    return _shifted_forward(images, kernel, stride, dilation, padding)[0]


def _shifted_forward(images, kernel, stride, dilation, padding):
    # The barrier keeps the padding out of the fusion, where every tap would repeat its bounds check.
    padded = lax.optimization_barrier(jnp.pad(images, ((0, 0), *padding, (0, 0))))
    height, width = (
        (size - dilation * (k - 1) - 1) // stride + 1
        for size, k in zip(padded.shape[1:3], kernel.shape[:2], strict=True)
    )
    return _taps(padded, kernel, dilation, stride, height, width), (padded, kernel)


def _shifted_backward(stride, dilation, padding, residuals, cotangent):
    padded, kernel = residuals
    height, width = (size - sum(edges) for size, edges in zip(padded.shape[1:3], padding, strict=True))
    reach = [dilation * (k - 1) for k in kernel.shape[:2]]
    steps = [stride * (n - 1) for n in cotangent.shape[1:3]]
    spread = lax.pad(
        cotangent,
        jnp.zeros((), cotangent.dtype),
        [(0, 0, 0)]
        + [
            (r - low, size + low - 1 - n, stride - 1)
            for r, n, size, (low, _) in zip(reach, steps, (height, width), padding, strict=True)
        ]
        + [(0, 0, 0)],
    )
    images_bar = _taps(lax.optimization_barrier(spread), kernel[::-1, ::-1], dilation, 1, height, width)
    return images_bar, _depthwise_kernel_gradient(padded, cotangent, kernel.shape[:2], stride, dilation)


@functools.partial(jax.jit, static_argnums=(2, 3, 4))
def _depthwise_kernel_gradient(
    padded: Array, cotangent: Array, size: tuple[int, int], stride: int, dilation: int
) -> Array:
    """Correlates padded [b, h, w, c] with cotangent [b, oh, ow, c] at the kh·kw taps, giving [kh, kw, c].

    XLA:CPU reduces products over leading axes slowly, but fuses a sum of a few of them into one vectorised loop, and
    multiplies matrices fast. So every tap adds up the batch in blocks elementwise, and one product with a row of ones
    does the rest. (Gram matrices of columns against columns compile as fast and run half as fast.)
    """
    batch, height, width, channels = cotangent.shape
    blocks = math.gcd(batch, BATCH_BLOCKS if cotangent.size >= SMALL else FEW_BATCH_BLOCKS)
    share = batch // blocks
    pieces = [slice(block * share, (block + 1) * share) for block in range(blocks)]
    ones = jnp.ones(share * height * width, cotangent.dtype)
    sums = []
    for i in range(size[0]):
        for j in range(size[1]):
            view = shifted_view(padded, i * dilation, j * dilation, height, width, stride)
            products = functools.reduce(jnp.add, (view[piece] * cotangent[piece] for piece in pieces))
            sums.append(ones @ products.reshape(-1, channels))
    return jnp.stack(sums).reshape(*size, channels)


_shifted.defvjp(_shifted_forward, _shifted_backward)
