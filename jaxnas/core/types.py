"""The vocabulary of jaxnas: every joint between its parts is a type in this file. No logic lives here.

A *code* is a pytree of integer choices (an architecture, a vector of signs). A *sampler* draws a code from logits and
returns it as *gates*, the numbers that multiply each candidate. An *objective* turns gates into a loss. A *gradient
estimator* turns sampler and objective into a gradient for the logits. See docs/design.md.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

Array = jax.Array
Key = jax.Array  # a typed key, as made by jax.random.key
PyTree = Any
Params = PyTree  # weights of a network
Logits = Mapping[str, Array]  # continuous architecture parameters, {part: float[choices, options]}
Gates = Mapping[str, Array]  # what multiplies every candidate, {part: float[choices, options]}
Architecture = Mapping[str, Array]  # one option for every choice, {part: int32[choices]}
Metrics = Mapping[str, Any]  # named scalars, or Averaged


class Dropout(NamedTuple):
    """Noise that a network may add while it learns: a key, and the rate at which it drops (a scalar in [0, 1))."""

    key: Key
    rate: Array


class Batch(NamedTuple):
    """Images as a network takes them, float32 [batch, height, width, channels], and labels int32 [batch].

    noise: what the network is to drop on these images, None for nothing.
    """

    images: Array
    labels: Array
    noise: Dropout | None = None


class Averaged(NamedTuple):
    """A metric that not every step has: what it adds to the sum of its values, and to their number."""

    total: Array
    weight: Array


class Draw(NamedTuple):
    """One code drawn from logits: its gates, its option numbers and the log-probability of the draw (a scalar)."""

    gates: Gates
    architecture: Architecture
    log_prob: Array


Sampler = Callable[[Key, Logits, Array], Draw]  # (key, logits, step count) -> draw
Objective = Callable[[Gates], tuple[Array, Metrics]]  # gates -> (loss, metrics)


class Estimate(NamedTuple):
    """An estimated gradient of the expected loss for the logits, beside what the objective returned on the way.

    draw: the code that was drawn, None for estimators that draw none (noise on the logits, coordinate differences).
    """

    loss: Array
    metrics: Metrics
    gradient: Logits
    draw: Draw | None


GradEstimator = Callable[[Key, Logits, Array, Objective], Estimate]  # (key, logits, step count, objective)


class Space(NamedTuple):
    """What can be chosen. `shapes` gives {part: (choices, options)}; everything else follows from it and `decode`.

    allowed: {part: bool [choices, options]}, which options a choice has at all.
    size: the number of valid architectures, exact.
    decode: logits -> nearest valid architecture; jit- and vmap-able, and the inverse of `spaces.space.encode`.
    best: scores {part: [choices, options]} -> the valid architecture with the largest sum of scores, where a choice
        that stands for "nothing here" (an edge that is not kept) scores 0. `decode` is `best` of log-probabilities.
    canonical, parse: architecture <-> its canonical string (one string per architecture).
    relevant: architecture -> {part: bool [choices]}, which choices decide anything beside its others, such as those
        of blocks that it has; None where all do.
    """

    name: str
    shapes: Mapping[str, tuple[int, int]]
    options: Mapping[str, tuple[str, ...]]
    allowed: Mapping[str, np.ndarray]
    size: int
    decode: Callable[[Logits], Architecture]
    best: Callable[[Logits], Architecture]
    canonical: Callable[[Architecture], str]
    parse: Callable[[str], Architecture]
    relevant: Callable[[Architecture], Mapping[str, Array]] | None = None


class Network(NamedTuple):
    """A supernet as two pure functions.

    init: key -> params.
    apply: (params, gates, images [batch, height, width, channels], noise) -> class logits [batch, classes]; the noise
        is a Dropout or None, and a network without anything to drop ignores it.
    active: gates -> a pytree shaped as params whose boolean leaves broadcast against the parameters and tell which
        took part under these gates (all true where the whole mixture runs).
    importance: params -> {part: [choices, options]}, the squared norm of the weights that an option adds to the one
        before it; None where options do not share weights (see `networks.superkernel_supernet`).
    reorder: (params, {part: bool [choices, options]}) -> params of the same function, whose channels are sorted so that
        narrower options take the more important ones; the options given keep theirs. None where none are nested.
    extract: (params, architecture) -> {"params", "batch_stats"} of the family's stand-alone network of a concrete
        architecture, with these weights; its statistics have to be calibrated. None where there are no such weights.
    """

    init: Callable[[Key], Params]
    apply: Callable[..., Array]
    active: Callable[[Gates], PyTree]
    importance: Callable[[Params], Mapping[str, Array]] | None = None
    reorder: Callable[[Params, Mapping[str, Array]], Params] | None = None
    extract: Callable[[Params, Architecture], Mapping[str, PyTree]] | None = None
