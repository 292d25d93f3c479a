"""What a space comes with: the supernet that holds it, the network each architecture stands for, and its pieces.

A search needs nothing else of a space, so that every method works on every family. The families are built by name in
`jaxnas.networks.families`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from flax import linen as nn

from jaxnas.core.types import Architecture, Network, Space
from jaxnas.relax.quantized import UNQUANTIZED


class Images(NamedTuple):
    """What networks are built for: images [height, width, channels] of so many classes.

    axis_name: the device axis over which batch statistics are shared, None to keep them per device.
    """

    height: int
    width: int
    channels: int
    classes: int
    axis_name: str | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """[height, width, channels]."""
        return self.height, self.width, self.channels


class Component(NamedTuple):
    """A piece of a stand-alone network that is called once for an image, and whose cost stands by itself.

    name: tells pieces of different cost apart, for people and in latency tables: "sep_conv_3x3 16x32x32 s2".
    module: called as (images [b, h, w, c], train); input_shape: (h, w, c) of what it reads.
    bits: of the weights and of the activations that its convolutions and linear layers multiply.
    """

    name: str
    module: nn.Module
    input_shape: tuple[int, int, int]
    bits: tuple[int, int] = UNQUANTIZED


class Term(NamedTuple):
    """A part of a network that depends on a few choices only.

    choices: the (part, row) of each. pieces: an object array with one axis for each of these choices, as long as it
        has options; an entry is the tuple of components that run under these options, () where nothing runs.
    """

    choices: tuple[tuple[str, int], ...]
    pieces: np.ndarray


class Family(NamedTuple):
    """A space with the networks that its architectures stand for.

    supernet: keyword settings of the evaluation -> Network over gates of this space. Every family takes `paths` (None:
        whole mixtures; k: only the k options of largest gate run in every choice) and `bare_gates`.
    network: (architecture, axis_name) -> the stand-alone network, a Linen module called as
        (images, train=..., drop_path_rate=...) that answers (logits, auxiliary logits or None).
    terms: () -> the choice-dependent parts of that network; the rest of it is the same for every architecture.
    describe: architecture -> how people write it: a genotype, or the canonical string.
    rows: {part: a name for every choice}, such as the edges of a cell or the layers of a chain.
    """

    space: Space
    supernet: Callable[..., Network]
    network: Callable[[Architecture, str | None], nn.Module]
    terms: Callable[[], Sequence[Term]]
    describe: Callable[[Architecture], str]
    rows: Mapping[str, Sequence[str]]
