"""A policy that remembers: the controller of ENAS, whose decisions depend on those before (Pham et al. 2018)."""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.core.keys import named
from jaxnas.core.types import Array, Key, PyTree, Space
from jaxnas.relax.categorical import EXCLUDED
from jaxnas.spaces.space import entropy
from jaxnas.strategies.policy import Code, Policy, allowed_options, check_setting, log_mixture, taken, total

SPREAD = 0.1  # initial parameters are uniform in [-0.1, 0.1], as published

Choose = Callable[[Array, PyTree], Array]  # (log-probabilities [options], what the step is given) -> an option


class _Steps(NamedTuple):
    """The decisions one after another: shapes {part: (choices, options)}, and per step the number of its part [steps]
    and which options it may take [steps, options of the widest part].
    """

    shapes: Mapping[str, tuple[int, int]]
    part: Array
    allowed: Array


def recurrent(
    space: Space, *, hidden: int, temperature: float, tanh_constant: float, allowed: Mapping[str, Array] | None = None
) -> Policy:
    """An LSTM that makes one decision a step and reads an embedding of the one before (Pham et al. 2018, section 2.3).

    Its logits are divided by the temperature and then bounded as tanh_constant · tanh(logits), which keeps
    probabilities away from 0 and 1; a constant of 0 leaves them as they are. All steps share the LSTM, of one layer of
    `hidden` units without biases; those of one part share the embeddings and the layer that gives the logits. Parts
    follow one another, where ENAS goes layer by layer: another order of the same choices.
    allowed: {part: bool [choices, options]}, the options that may be drawn; None for all that the space has.
    Raises UserError for fewer than one hidden unit, a temperature not above 0 and a negative tanh_constant.
    """
    check_setting("hidden", hidden, hidden >= 1, "at least 1")
    check_setting("temperature", temperature, 0 < temperature < math.inf, "a number above 0, such as 5")
    check_setting("tanh_constant", tanh_constant, 0 <= tanh_constant < math.inf, "at least 0, such as 2.5")
    steps = _steps(space, allowed)
    parts, widest = len(steps.shapes), steps.allowed.shape[-1]
    shapes = {
        "start": (hidden,),
        "lstm": (2 * hidden, 4 * hidden),
        "embeddings": (parts, widest, hidden),
        "heads": (parts, hidden, widest),
    }

    def init(key: Key) -> PyTree:
        return {
            name: jax.random.uniform(named(key, name), shape, minval=-SPREAD, maxval=SPREAD)
            for name, shape in shapes.items()
        }

    def bounded(logits: Array) -> Array:
        cooled = logits / temperature
        return tanh_constant * jnp.tanh(cooled) if tanh_constant else cooled

    def along(parameters: PyTree, code: Code) -> Mapping[str, Array]:
        """Log-probabilities of all options at every decision, {part: [choices, options]}, given the code before it."""
        options = jnp.concatenate([code[part] for part in steps.shapes])
        return _unroll(steps, bounded, parameters, lambda values, option: option, options)[1]

    def greedy(parameters: PyTree) -> tuple[Code, Mapping[str, Array]]:
        return _unroll(steps, bounded, parameters, lambda values, nothing: jnp.argmax(values), None)

    def sample(key: Key, parameters: PyTree) -> Code:
        keys = jax.random.split(key, len(steps.part))
        return _unroll(steps, bounded, parameters, lambda values, key: jax.random.categorical(key, values), keys)[0]

    def explore(key: Key, parameters: PyTree, epsilon: Array | float) -> Code:
        uniform = jax.nn.log_softmax(jnp.where(steps.allowed, 0.0, EXCLUDED))

        def choose(values: Array, given: tuple[Key, Array]) -> Array:
            return jax.random.categorical(given[0], log_mixture(values, given[1], epsilon))

        return _unroll(steps, bounded, parameters, choose, (jax.random.split(key, len(uniform)), uniform))[0]

    return Policy(
        init=init,
        sample=sample,
        log_probs=lambda parameters, code: taken(along(parameters, code), code),
        entropy=lambda parameters, code: total(entropy(along(parameters, code))),
        probabilities=lambda parameters: jax.tree.map(jnp.exp, greedy(parameters)[1]),
        mode=lambda parameters: greedy(parameters)[0],
        explore=explore,
    )


def _steps(space: Space, allowed: Mapping[str, Array] | None) -> _Steps:
    mask = allowed_options(space, allowed)
    widest = max(options for _, options in space.shapes.values())
    padded = [jnp.pad(mask[part], ((0, 0), (0, widest - options))) for part, (_, options) in space.shapes.items()]
    part = np.repeat(np.arange(len(padded)), [len(rows) for rows in padded])
    return _Steps(space.shapes, jnp.asarray(part), jnp.concatenate(padded))


def _unroll(
    steps: _Steps, bounded: Callable[[Array], Array], parameters: PyTree, choose: Choose, given: PyTree
) -> tuple[Code, Mapping[str, Array]]:
    """Makes all decisions in turn by `choose`, which is also given the step's own of `given`, leaves [steps, ...].

    Returns the code and the log-probabilities of all options along it, {part: [choices, options]}.
    """

    def step(carry: tuple[Array, Array, Array], at: PyTree) -> tuple[tuple[Array, Array, Array], PyTree]:
        state, memory, reading = carry
        part, allowed, of_step = at
        state, memory = _lstm(parameters["lstm"], state, memory, reading)
        logits = bounded(state @ parameters["heads"][part])
        values = jax.nn.log_softmax(jnp.where(allowed, logits, EXCLUDED))
        option = choose(values, of_step).astype(jnp.int32)
        return (state, memory, parameters["embeddings"][part, option]), (option, values)

    start = parameters["start"]
    carry = (jnp.zeros_like(start), jnp.zeros_like(start), start)
    _, (code, values) = jax.lax.scan(step, carry, (steps.part, steps.allowed, given))
    ends = np.cumsum([choices for choices, _ in steps.shapes.values()])[:-1]
    rows = dict(zip(steps.shapes, jnp.split(values, ends), strict=True))
    return dict(zip(steps.shapes, jnp.split(code, ends), strict=True)), {
        part: of_part[:, : steps.shapes[part][1]] for part, of_part in rows.items()
    }


def _lstm(kernel: Array, state: Array, memory: Array, reading: Array) -> tuple[Array, Array]:
    """One step of an LSTM with forget gates and without biases, in the published order of gates: (state, memory)."""
    write, keep, show, new = jnp.split(jnp.concatenate([reading, state]) @ kernel, 4)
    memory = jax.nn.sigmoid(keep) * memory + jax.nn.sigmoid(write) * jnp.tanh(new)
    return jax.nn.sigmoid(show) * jnp.tanh(memory), memory
