"""The stand-alone network of a cell of NAS-Bench-201, as the benchmark trains it (Dong & Yang 2020, section 2.1).

Three stages of equal cells, at the width of the stem, twice and four times that, with a residual block that halves the
size between them. Batch normalisation is that of `networks.cell_operations`.
"""

from collections.abc import Mapping

import jax.numpy as jnp
from flax import linen as nn

from jaxnas.core.errors import UserError, choose
from jaxnas.core.types import Array
from jaxnas.layers.pooling import avg_pool
from jaxnas.networks.cell_network import Rate, drop_path
from jaxnas.networks.cell_operations import (
    Convolution,
    DenseConvolutions,
    Factory,
    Linear,
    Normalization,
    Pool,
    Skip,
    Zero,
)
from jaxnas.spaces.nas_bench_201 import EDGES, NODES

STAGES = 3
IDENTITIES = ("none", "skip_connect")  # nothing that drop-path could drop

# (channels, stride, axis_name, name) -> module; the stride is always 1. The pool is not normalised.
CELL_OPERATIONS: Mapping[str, Factory] = {
    "none": lambda channels, stride, axis_name, name: Zero(stride, name=name),
    "skip_connect": lambda channels, stride, axis_name, name: Skip(name=name),
    "nor_conv_1x1": lambda channels, stride, axis_name, name: DenseConvolutions((1,), stride, axis_name, name=name),
    "nor_conv_3x3": lambda channels, stride, axis_name, name: DenseConvolutions((3,), stride, axis_name, name=name),
    "avg_pool_3x3": lambda channels, stride, axis_name, name: Pool(avg_pool, 3, stride, name=name),
}


class BenchmarkCell(nn.Module):
    """One cell; `architecture` names the operation on every edge, in the order of `spaces.nas_bench_201.EDGES`."""

    architecture: tuple[str, ...]
    axis_name: str | None

    @nn.compact
    def __call__(self, images: Array, train: bool, drop_path_rate: Rate) -> Array:
        """[b, h, w, c] -> the last node, [b, h, w, c]."""
        drop = train and not (isinstance(drop_path_rate, int | float) and drop_path_rate == 0)
        states = [images]
        for node in range(NODES):
            outputs = []
            for (source, at), name in zip(EDGES, self.architecture, strict=True):
                if at != node:
                    continue
                factory = CELL_OPERATIONS[name]
                module = factory(images.shape[-1], 1, self.axis_name, f"edge_{source}_{node + 1}_{name}")
                output = module(states[source], train)
                outputs.append(drop_path(self, output, drop_path_rate) if drop and name not in IDENTITIES else output)
            states.append(sum(outputs[1:], start=outputs[0]))
        return states[-1]


class ResidualReduction(nn.Module):
    """The block between stages: two 3×3 convolutions, the first of stride 2, beside 2×2 means and a 1×1 convolution."""

    features: int
    axis_name: str | None

    @nn.compact
    def __call__(self, images: Array, train: bool) -> Array:
        """[b, h, w, c] -> [b, h / 2, w / 2, features], for an even height and width."""
        hidden = DenseConvolutions((3,), 2, self.axis_name, self.features, name="first")(images, train)
        hidden = DenseConvolutions((3,), 1, self.axis_name, name="second")(hidden, train)
        batch, height, width, channels = images.shape
        means = jnp.mean(images.reshape(batch, height // 2, 2, width // 2, 2, channels), axis=(2, 4))
        return Convolution(self.features, name="shortcut")(means) + hidden


class NasBench201Network(nn.Module):
    """Stem, three stages of `cells` equal cells with residual blocks between, classifier.

    architecture: the benchmark's name of the operation on every edge, in the order of `spaces.nas_bench_201.EDGES`.
    channels: of the first stage; every later one has twice as many. classes: number of logits.
    axis_name: the device axis over which batch statistics are shared, None to keep them per device.
    Raises UserError for an architecture other than six known operations, and fewer than one channel, cell or class.
    """

    architecture: tuple[str, ...]
    channels: int = 16
    cells: int = 5
    classes: int = 10
    axis_name: str | None = None

    def __post_init__(self) -> None:
        if len(self.architecture) != len(EDGES):
            raise UserError(f"the cell names {len(self.architecture)} operations, but has {len(EDGES)} edges.")
        for (source, node), name in zip(EDGES, self.architecture, strict=True):
            choose(f"operation on the edge from state {source} to state {node + 1}:", name, CELL_OPERATIONS)
        for name in ("channels", "cells", "classes"):
            if getattr(self, name) < 1:
                raise UserError(f"a network needs at least 1 of {name}, not {getattr(self, name)}.")
        super().__post_init__()

    @nn.compact
    def __call__(self, images: Array, *, train: bool, drop_path_rate: Rate = 0.0) -> tuple[Array, None]:
        """Images [b, h, w, c] -> (logits [b, classes], None): the benchmark has no auxiliary head.

        In training the collection `batch_stats` is updated, and a drop_path_rate other than the number 0, which the
        benchmark has, drops edges other than identities with the stream "drop_path".
        Raises UserError for images whose height or width cannot be halved twice.
        """
        check_size(images)
        hidden = Convolution(self.channels, (3, 3), name="stem_convolution")(images)
        hidden = Normalization(self.axis_name, name="stem_normalization")(hidden, train)
        for stage in range(STAGES):
            if stage:
                width = self.channels * 2**stage
                hidden = ResidualReduction(width, self.axis_name, name=f"reduction_{stage}")(hidden, train)
            for number in range(self.cells):
                cell = BenchmarkCell(self.architecture, self.axis_name, name=f"stage_{stage}_cell_{number}")
                hidden = cell(hidden, train, drop_path_rate)
        hidden = nn.relu(Normalization(self.axis_name, name="normalization")(hidden, train))
        return Linear(self.classes, name="classifier")(jnp.mean(hidden, axis=(1, 2))), None


def check_size(images: Array) -> None:
    """Raises UserError for images [b, h, w, c] whose height or width cannot be halved between all stages."""
    height, width = images.shape[1:3]
    factor = 2 ** (STAGES - 1)
    if height % factor or width % factor:
        raise UserError(
            f"images of {height}×{width} pixels cannot be halved {STAGES - 1} times; "
            f"pad or resize them to a multiple of {factor}."
        )
