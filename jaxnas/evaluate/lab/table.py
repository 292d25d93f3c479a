"""The lab's estimators by name: one table, one function that calls any of them on a sign network.

Every row makes a pure function (key, params, x, y) -> gradient from its settings; `gradient` checks what it is given
and runs it compiled. The network is a tuple of {'kernel': [in, out], 'bias': [out] (optional)} with a sign after every
layer but the last; x is [batch, in], y [batch] or [batch, out]; the loss is the mean squared error.
"""

import functools
import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.core import Tracer

from jaxnas.core.errors import UserError, choose, unknown
from jaxnas.core.keys import named
from jaxnas.core.types import Array, GradEstimator, Key, Params
from jaxnas.estimators.coordinate import coordinate_differences
from jaxnas.estimators.enumeration import enumerated
from jaxnas.estimators.nes import check_settings, nes
from jaxnas.estimators.smoothed import smoothed
from jaxnas.estimators.stochastic import mean_of_draws
from jaxnas.estimators.structured import structured_differences
from jaxnas.evaluate.lab.checks import check_count, check_flag, check_number, check_text
from jaxnas.layers.backend import compiler_options
from jaxnas.networks import sign_network
from jaxnas.networks.sign_tiles import tiled_loss
from jaxnas.relax.binary import SURROGATES, stochastic_sign, straight_through

Gradient = Callable[[Key, Params, Array, Array], Params]
Objective = Callable[[Params], tuple[Array, dict[str, Array]]]


class Row(NamedTuple):
    """An estimator. make: settings, all with defaults -> (key, params, x, y) -> gradient.

    draws_from: the fewest layers with which it draws, and needs a key; None where it never does.
    through_signs: whether it needs a layer with a sign. source: where it comes from.
    """

    make: Callable[..., Gradient]
    about: str
    source: str
    draws_from: int | None = None
    through_signs: bool = False


class Description(NamedTuple):
    """What `estimators` tells of a row: its settings with their defaults, what it is, and its source."""

    settings: Mapping[str, Any]
    about: str
    source: str


def _objective(x: Array, y: Array) -> Objective:
    return lambda params: (tiled_loss(params, x, y), {})


def _run(estimator: GradEstimator, key: Key, params: Params, x: Array, y: Array) -> Params:
    return estimator(key, params, jnp.zeros((), jnp.int32), _objective(x, y)).gradient


def ste(*, surrogate: str = "clipped", **shape: float) -> Gradient:
    """Back-propagation with a surrogate derivative of the sign; `shape` are the surrogate's own settings."""
    activation = straight_through(surrogate, **shape)
    return lambda key, params, x, y: jax.grad(sign_network.loss)(params, x, y, activation)


def sr_ste(*, draws: int = 1, weighting: str = "uniform") -> Gradient:
    """Stochastic rounding in the gradient pass, averaged over draws."""
    average = mean_of_draws(draws, weighting)

    def run(key, params, x, y):
        def noisy(key, params):
            keys = iter(jax.random.split(key, len(params)))
            return sign_network.loss(params, x, y, lambda values: stochastic_sign(next(keys), values)), {}

        return _run(average(noisy), key, params, x, y)

    return run


def cdg(*, epsilon: float = 0.1) -> Gradient:
    """Coordinate differences by the network's structure."""
    _positive("epsilon", epsilon)
    return lambda key, params, x, y: structured_differences(params, x, y, epsilon=epsilon)


def cdg_naive(*, epsilon: float = 0.1, chunk: int = 1) -> Gradient:
    """Coordinate differences by two evaluations per parameter."""
    return functools.partial(_run, coordinate_differences(epsilon, chunk))


def natural_evolution(
    *,
    population: int = 500,
    sigma: float = 0.1,
    antithetic: bool = True,
    shaping: str = "raw",
    baseline: str = "mean",
    natural: bool = False,
    orthogonal: int = 0,
    control: str | None = None,
    shift: str | None = None,
    step: float = 0.1,
    subspace: tuple[str, ...] = (),
    chunk: int = 1,
) -> Gradient:
    """Natural evolution strategies.

    control, shift and subspace name other rows of the table, at their defaults, or surrogates, for the STE with them.
    shift: sampling starts from where a step of length `step` against that gradient leads.
    """
    check_settings(population, sigma, antithetic, shaping, baseline, orthogonal, chunk)
    _positive("step", step)
    helpers = [name for name in (control, shift, *subspace) if name is not None]
    others = {name: ste(surrogate=name) if name in SURROGATES else estimator(name) for name in helpers}

    def run(key, params, x, y):
        found = {name: other(named(key, name), params, x, y) for name, other in others.items()}
        return _run(
            nes(
                population=population,
                sigma=sigma,
                antithetic=antithetic,
                shaping=shaping,
                baseline=baseline,
                natural=natural,
                orthogonal=orthogonal,
                control=found[control] if control else None,
                shift=_step(found[shift], -step) if shift else None,
                subspace=tuple(found[name] for name in subspace),
                chunk=chunk,
            ),
            *(key, params, x, y),
        )

    return run


def _step(direction: Params, length: float) -> Params:
    norm = optax.tree.norm(direction)
    return jax.tree.map(lambda leaf: leaf * (length / jnp.where(norm > 0, norm, 1)), direction)


def smooth(*, sigma: float = 0.1, draws: int = 1) -> Gradient:
    """The infinite-population limit of raw-fitness NES, from some draws of codes."""
    _positive("sigma", sigma)
    return lambda key, params, x, y: smoothed(key, params, x, y, sigma=sigma, draws=draws)


def exact(*, sigma: float = 0.1) -> Gradient:
    """The same limit by enumeration of codes, for narrow networks."""
    _positive("sigma", sigma)
    return lambda key, params, x, y: enumerated(params, x, y, sigma=sigma)


def _positive(name: str, value: float) -> None:
    if not isinstance(value, Tracer) and not 0 < value < math.inf:
        raise UserError(f"{name} must be positive and finite, not {value}; 0.1 is a usual value.")


TABLE: Mapping[str, Row] = {
    "ste": Row(ste, "straight-through, with any surrogate derivative", "Bengio et al. 2013", through_signs=True),
    "sr_ste": Row(sr_ste, "straight-through with stochastic rounding, averaged", "Courbariaux et al. 2016", 1, True),
    "cdg": Row(cdg, "coordinate differences, by the network's structure", "Kim et al. 2020 (BinaryDuo), eq. 5"),
    "cdg_naive": Row(cdg_naive, "coordinate differences, two losses a parameter", "Kim et al. 2020 (BinaryDuo), eq. 5"),
    "nes": Row(natural_evolution, "natural evolution strategies", "Wierstra et al. 2014; Salimans et al. 2017", 1),
    "smoothed": Row(smooth, "NES with an infinite population, by conditional expectation", "see docs/lab.md", 3),
    "enumerated": Row(exact, "NES with an infinite population, by enumeration", "see docs/lab.md"),
}


def estimators() -> Mapping[str, Description]:
    """The names that `gradient` takes, with their settings, what they are, and their sources."""
    return {name: Description(_defaults(row), row.about, row.source) for name, row in TABLE.items()}


def _defaults(row: Row) -> dict[str, Any]:
    parameters = inspect.signature(row.make).parameters.values()
    return {one.name: one.default for one in parameters if one.kind is inspect.Parameter.KEYWORD_ONLY}


def estimator(name: str, **settings: Any) -> Gradient:
    """The pure function (key, params, x, y) -> gradient of a row, for use inside jit, vmap and scan.

    Settings whose default is a float may be traced. Raises UserError for an unknown name or setting (with the nearest
    one) and for values that do not fit.
    """
    return choose("estimator", name, TABLE).make(**_checked_settings(name, settings))


def _checked_settings(name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a row as plain values: numbers, texts, and tuples of texts."""
    make = choose("estimator", name, TABLE).make
    defaults = _defaults(TABLE[name])
    open_ended = any(one.kind is inspect.Parameter.VAR_KEYWORD for one in inspect.signature(make).parameters.values())
    for setting in settings:
        if setting not in defaults and not open_ended:
            raise unknown(f"setting of {name}", setting, defaults)
    return {setting: _checked_value(setting, value, defaults.get(setting, 1.0)) for setting, value in settings.items()}


def _checked_value(setting: str, value: Any, default: Any) -> Any:
    """A value of the kind of the setting's default; raises UserError for one of another kind."""
    if isinstance(value, Tracer):
        if isinstance(default, float):
            return value
        raise UserError(f"{setting} must be known when the program is compiled, so that it cannot be traced.")
    if isinstance(value, np.generic | np.ndarray | jax.Array) and np.ndim(value) == 0:
        value = value.item()
    kinds = {bool: (check_flag, ()), int: (check_count, (0,)), float: (check_number, ()), str: (check_text, ())}
    if type(default) in kinds:
        check, more = kinds[type(default)]
        check(setting, value, *more)
    elif isinstance(default, tuple):
        if not isinstance(value, tuple | list) or not all(isinstance(one, str) for one in value):
            raise UserError(f"{setting} must be a tuple of names, not {value!r}.")
        value = tuple(value)
    elif value is not None and not isinstance(value, str):
        raise UserError(f"{setting} must be a name or None, not {value!r}.")
    return value


@functools.lru_cache(maxsize=256)
def _compiled(name: str, static: tuple[tuple[str, Any], ...]) -> Callable[..., Params]:
    """(floats, key, params, x, y) -> gradient; floats are settings that may change without compiling again."""

    def run(floats: Mapping[str, Array], key: Key, params: Params, x: Array, y: Array) -> Params:
        found = estimator(name, **dict(static), **floats)(key, params, x, y)
        return jax.tree.map(lambda leaf, weight: leaf.astype(weight.dtype), found, params)

    return jax.jit(run, compiler_options=compiler_options())


def gradient(name: str, params: Params, x: Array, y: Array, key: Key | None = None, **settings: Any) -> Params:
    """The gradient of the mean squared error by the estimator of that name, shaped as params.

    key: needed by estimators that draw. settings: see `estimators()`. The program is compiled once for each name, for
    settings that are not floats, and for shapes. Raises UserError, before anything runs, for whatever is wrong with the
    arguments.
    """
    settings = _checked_settings(name, settings)
    estimator(name, **settings)  # refuses values that do not fit
    row = TABLE[name]
    floats = {one: float(value) for one, value in settings.items() if isinstance(_defaults(row).get(one), float)}
    static = tuple(sorted((one, value) for one, value in settings.items() if one not in floats))
    layers, x, y = sign_network.checked(params, x, y)
    if row.through_signs and len(layers) < 2:
        raise UserError(f"{name} needs a layer with a sign, but this network has one layer, which has none.")
    if row.draws_from is not None and len(layers) >= row.draws_from and key is None:
        raise UserError(f"{name} draws at random: give it a key, such as jax.random.key(0).")
    weights = layers[0]["kernel"].dtype
    x, y = (jnp.asarray(each, weights) for each in (x, y))
    found = _compiled(name, static)(floats, jax.random.key(0) if key is None else _one_key(key), layers, x, y)
    return found if isinstance(params, tuple) else list(found)


def _one_key(key: Any) -> Key:
    if isinstance(key, jax.Array):
        if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) and key.ndim == 0:
            return key
        if key.dtype == jnp.uint32 and key.shape == (2,):  # as made by jax.random.PRNGKey
            return jax.random.wrap_key_data(key)
    raise UserError("key must be one random key, such as jax.random.key(0).")
