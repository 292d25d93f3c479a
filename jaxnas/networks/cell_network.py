"""The stand-alone network that a genotype describes, as DARTS evaluates it (Liu, Simonyan & Yang 2019, section 3.2)."""

import functools

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxnas.core.errors import UserError, choose
from jaxnas.core.types import Array
from jaxnas.networks.cell_operations import (
    OPERATIONS,
    Convolution,
    FactorizedReduction,
    Linear,
    Normalization,
    Projection,
)
from jaxnas.networks.repeated import run_blocks
from jaxnas.spaces.cell import reduction_layers
from jaxnas.spaces.genotype import Genotype, check_genotype
from jaxnas.spaces.zoo import Edges

STEMS = {"cifar": 3, "imagenet": 1}  # channels of the stem's output, in units of the network's
AUXILIARY_STRIDES = {"cifar": 3, "imagenet": 2}
Rate = Array | float


def drop_path(module: nn.Module, images: Array, rate: Rate) -> Array:
    """Drops whole examples of images [b, h, w, c] with probability `rate` and scales the others by 1 / (1 - rate).

    Draws from the module's random stream "drop_path". Source: Larsson, Maire & Shakhnarovich 2017, as DARTS uses it.
    """
    keep = jax.random.bernoulli(module.make_rng("drop_path"), 1.0 - rate, (images.shape[0], 1, 1, 1))
    return jnp.where(keep, images / (1.0 - rate), 0.0)


class Cell(nn.Module):
    """One cell; edges and concat are the fields of a genotype, `halve_first` tells that input 0 is twice as large."""

    edges: Edges
    concat: tuple[int, ...]
    channels: int
    reduction: bool
    halve_first: bool
    axis_name: str | None

    @nn.compact
    def __call__(self, before: Array, last: Array, train: bool, drop_path_rate: Rate) -> Array:
        """Outputs of the cell before the last and of the last -> [b, h / stride, w / stride, states · channels]."""
        kind = FactorizedReduction if self.halve_first else Projection
        states = [
            kind(self.channels, self.axis_name, name="preprocess_0")(before, train),
            Projection(self.channels, self.axis_name, name="preprocess_1")(last, train),
        ]
        outputs = []
        for number, (name, source) in enumerate(self.edges):
            stride = 2 if self.reduction and source < 2 else 1
            module = OPERATIONS[name](self.channels, stride, self.axis_name, f"edge_{number}_{name}")
            output = module(states[source], train)
            identity = name == "skip_connect" and stride == 1
            if train and not identity and not _is_zero(drop_path_rate):
                output = drop_path(self, output, drop_path_rate)
            outputs.append(output)
            if number % 2:
                states.append(outputs[-2] + outputs[-1])
        return jnp.concatenate([states[state] for state in self.concat], axis=-1)


def _is_zero(rate: Rate) -> bool:
    """Whether a rate is known to be zero while tracing, so that no random numbers are needed."""
    return isinstance(rate, int | float) and rate == 0


class Stem(nn.Module):
    """Convolutions before the cells: one 3×3 ("cifar"), or three of stride 2 ("imagenet")."""

    kind: str
    channels: int
    axis_name: str | None

    @nn.compact
    def __call__(self, images: Array, train: bool) -> tuple[Array, Array]:
        """The first cell's two inputs: the same for "cifar", of a quarter and an eighth of the size for "imagenet"."""

        def layer(inputs: Array, number: int, features: int, stride: int) -> Array:
            hidden = Convolution(features, (3, 3), stride, name=f"convolution_{number}")(inputs)
            return Normalization(self.axis_name, name=f"normalization_{number}")(hidden, train)

        if self.kind == "cifar":
            output = layer(images, 0, STEMS["cifar"] * self.channels, 1)
            return output, output
        half = nn.relu(layer(images, 0, self.channels // 2, 2))
        quarter = layer(half, 1, self.channels, 2)
        return quarter, layer(nn.relu(quarter), 2, self.channels, 2)


class AuxiliaryHead(nn.Module):
    """The second classifier, which trains the middle of the network.

    As published, the head for ImageNet lacks the last normalisation. The features are averaged over positions; at the
    published sizes there is one.
    """

    kind: str
    classes: int
    axis_name: str | None

    @nn.compact
    def __call__(self, images: Array, train: bool) -> Array:
        """[b, h, w, c] -> logits [b, classes]. Raises UserError for maps smaller than 8×8 ("cifar") or 7×7."""
        stride = AUXILIARY_STRIDES[self.kind]
        smallest = 5 + stride
        if min(images.shape[1:3]) < smallest:
            height, width = images.shape[1:3]
            raise UserError(
                f"the auxiliary head needs feature maps of at least {smallest}x{smallest} pixels, but gets "
                f"{height}x{width}; take larger images or set auxiliary to False."
            )
        hidden = nn.avg_pool(nn.relu(images), (5, 5), strides=(stride, stride))
        hidden = Normalization(self.axis_name, name="normalization_1")(
            Convolution(128, name="pointwise")(hidden), train
        )
        hidden = Convolution(768, (2, 2), padding=((0, 0), (0, 0)), name="convolution")(nn.relu(hidden))
        if self.kind == "cifar":
            hidden = Normalization(self.axis_name, name="normalization_2")(hidden, train)
        return Linear(self.classes, name="classifier")(jnp.mean(nn.relu(hidden), axis=(1, 2)))


class CellNetwork(nn.Module):
    """A stack of the cells of a genotype; reductions, which double the channels, after a third and two thirds of it.

    channels: of the first cells' states. classes: number of logits. stem: "cifar" or "imagenet".
    auxiliary: whether there is a second classifier after the second reduction, which answers in training only.
    axis_name: the device axis over which batch statistics are shared, None to keep them per device.
    looped, recomputed: whether equal cells are iterations of one loop, and whether cells run again on the way back, see
    `networks.repeated`.
    Raises UserError for a malformed genotype, an unknown stem, fewer than one layer, channel or class and, with the
    ImageNet stem, an odd number of channels.
    """

    genotype: Genotype
    channels: int
    layers: int
    classes: int
    stem: str = "cifar"
    auxiliary: bool = False
    axis_name: str | None = None
    looped: bool = False
    recomputed: bool = False

    def __post_init__(self) -> None:
        check_genotype(self.genotype)
        choose("stem", self.stem, STEMS)
        reduction_layers(self.layers)
        for name in ("channels", "classes"):
            if getattr(self, name) < 1:
                raise UserError(f"a network needs at least 1 of {name}, not {getattr(self, name)}.")
        if self.stem == "imagenet" and self.channels % 2:
            raise UserError(f"channels has to be even with the imagenet stem, not {self.channels}.")
        super().__post_init__()

    @nn.compact
    def __call__(self, images: Array, *, train: bool, drop_path_rate: Rate = 0.0) -> tuple[Array, Array | None]:
        """Images [b, h, w, c] of any size -> (logits, auxiliary logits), [b, classes] each.

        The auxiliary logits are None except in training with an auxiliary head. In training the collection
        `batch_stats` is updated, and a drop_path_rate other than the number 0 draws from the stream "drop_path".
        Raises UserError where the feature maps are too small for the auxiliary head.
        """
        reductions = reduction_layers(self.layers)
        before, last = Stem(self.stem, self.channels, self.axis_name, name="stem")(images, train)
        channels = self.channels
        auxiliary = None
        number = 0
        while number < self.layers:
            reduction = number in reductions
            channels *= 2 if reduction else 1
            edges, concat = self.genotype[2:] if reduction else self.genotype[:2]
            halve_first = number - 1 in reductions or (number == 0 and self.stem == "imagenet")
            numbers = range(number, number + 1)
            if (
                not reduction
                and not halve_first
                and before.shape == last.shape == (*last.shape[:3], channels * len(concat))
            ):
                numbers = range(number, min((one for one in reductions if one > number), default=self.layers))
            make = functools.partial(Cell, edges, concat, channels, reduction, halve_first, self.axis_name)
            cells = [make(name=f"cell_{one}") for one in numbers]
            before, last = run_blocks(
                self,
                cells,
                (before, last),
                lambda cell, states: (states[1], cell(*states, train, drop_path_rate)),
                looped=self.looped,
                recomputed=self.recomputed,
            )
            number = numbers[-1] + 1
            if numbers[-1] == reductions[-1] and self.auxiliary and (train or self.is_initializing()):
                auxiliary = AuxiliaryHead(self.stem, self.classes, self.axis_name, name="auxiliary_head")(last, train)
        logits = Linear(self.classes, name="classifier")(jnp.mean(last, axis=(1, 2)))
        return logits, auxiliary if train else None
