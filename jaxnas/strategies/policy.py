"""Policies: distributions over codes with parameters that learn. A code is one option for every choice.

A code is what `space.decode` starts from: in product spaces it is the architecture; in others, such as cells, which
keep two edges a node, several codes may be decoded to the same architecture. Policies give probabilities of codes, so
that they are exact in every space. Decisions are made in the order of `space.shapes`: part by part, choice by choice.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxnas.core.errors import UserError
from jaxnas.core.keys import named
from jaxnas.core.types import Architecture, Array, Key, PyTree, Space
from jaxnas.relax.categorical import masked
from jaxnas.spaces.space import PREFERRED, encode, entropy

Code = Mapping[str, Array]  # {part: int32 [choices]}


class Policy(NamedTuple):
    """A distribution over codes as pure functions of its parameters, all of which work under jit and vmap.

    init: key -> parameters, any pytree.
    sample: (key, parameters) -> a code.
    log_probs: (parameters, code) -> {part: [choices]}, the log-probability (nats) of every decision, given those before
        it; their sum is that of the code. It is about `relax.categorical.EXCLUDED` for options that are not allowed.
    entropy: (parameters, code) -> nats, a scalar. Of a factorised policy the entropy, whatever the code; of a recurrent
        one the sum of the entropies of the decisions along the code, whose mean over its samples is the entropy.
    probabilities: parameters -> {part: [choices, options]}, of a factorised policy the marginals, of a recurrent one
        those of every decision along its greedy code.
    mode: parameters -> the greedy code, the most probable option at every decision.
    explore: (key, parameters, epsilon) -> as sample, but every decision, with the probability epsilon and independently
        of the others, is uniform among the options allowed.
    """

    init: Callable[[Key], PyTree]
    sample: Callable[[Key, PyTree], Code]
    log_probs: Callable[[PyTree, Code], Mapping[str, Array]]
    entropy: Callable[[PyTree, Code], Array]
    probabilities: Callable[[PyTree], Mapping[str, Array]]
    mode: Callable[[PyTree], Code]
    explore: Callable[[Key, PyTree, Array | float], Code]


def factorised(space: Space, allowed: Mapping[str, Array] | None = None) -> Policy:
    """An independent softmax for every choice; the parameters are its logits, {part: [choices, options]}, 0 at first.

    allowed: {part: bool [choices, options]}, the options that may be drawn; None for all that the space has.
    """
    mask = allowed_options(space, allowed)

    def sample(key: Key, parameters: PyTree) -> Code:
        return _draw(key, masked(parameters, mask))

    def log_probs(parameters: PyTree, code: Code) -> Mapping[str, Array]:
        return taken(log_softmax(masked(parameters, mask)), code)

    def explore(key: Key, parameters: PyTree, epsilon: Array | float) -> Code:
        uniform = log_softmax(masked(init(key), mask))
        own = log_softmax(masked(parameters, mask))
        return _draw(key, jax.tree.map(lambda one, other: log_mixture(one, other, epsilon), own, uniform))

    def init(key: Key) -> PyTree:
        del key
        return {part: jnp.zeros(shape) for part, shape in space.shapes.items()}

    return Policy(
        init=init,
        sample=sample,
        log_probs=log_probs,
        entropy=lambda parameters, code: total(entropy(masked(parameters, mask))),
        probabilities=lambda parameters: jax.tree.map(jax.nn.softmax, dict(masked(parameters, mask))),
        mode=lambda parameters: {part: _most(values) for part, values in masked(parameters, mask).items()},
        explore=explore,
    )


def allowed_options(space: Space, allowed: Mapping[str, Array] | None) -> Mapping[str, Array]:
    """Those of the options allowed (None for all) that the space has, bool {part: [choices, options]}."""
    if allowed is None:
        return {part: jnp.asarray(mask) for part, mask in space.allowed.items()}
    return {part: jnp.logical_and(space.allowed[part], allowed[part]) for part in space.shapes}


def log_softmax(logits: Mapping[str, Array]) -> Mapping[str, Array]:
    """Logarithms of the probabilities of {part: [choices, options]}."""
    return {part: jax.nn.log_softmax(values) for part, values in logits.items()}


def taken(values: Mapping[str, Array], code: Code) -> Mapping[str, Array]:
    """The entry of every choice at the code's option: {part: [choices, options]} -> {part: [choices]}."""
    return {part: jnp.take_along_axis(rows, code[part][:, None], axis=-1)[:, 0] for part, rows in values.items()}


def total(values: Mapping[str, Array]) -> Array:
    """The sum over all parts and choices, a scalar: of decisions' log-probabilities that of their code."""
    return jnp.sum(jnp.stack([jnp.sum(each) for each in values.values()]))


def log_mixture(first: Array, second: Array, epsilon: Array | float) -> Array:
    """The logarithm of (1 - epsilon) · e^first + epsilon · e^second, elementwise."""
    return jnp.logaddexp(jnp.log1p(-jnp.asarray(epsilon)) + first, jnp.log(epsilon) + second)


def decoded(space: Space, code: Code, probabilities: Mapping[str, Array]) -> Architecture:
    """The valid architecture that agrees with the code in the most choices; of several, that of the largest sum of
    probabilities {part: [choices, options]}. In product spaces it is the code.
    """
    return space.best({part: PREFERRED * gates + probabilities[part] for part, gates in encode(space, code).items()})


def check_setting(name: str, value: object, fits: bool, expected: str) -> None:
    """Raises UserError that names the setting and what it has to be, unless its value fits."""
    if not fits:
        raise UserError(f"{name} is {value}, but has to be {expected}.")


def _draw(key: Key, logits: Mapping[str, Array]) -> Code:
    draws = {part: jax.random.categorical(named(key, part), values) for part, values in logits.items()}
    return {part: options.astype(jnp.int32) for part, options in draws.items()}


def _most(values: Array) -> Array:
    return jnp.argmax(values, axis=-1).astype(jnp.int32)
