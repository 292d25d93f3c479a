"""Binary codes: the sign, exact forward, with the derivative of something smoother backward.

sign(0) = +1 throughout, so that a code is always ±1. A *surrogate* is a derivative to use in the place of the sign's,
which is zero almost everywhere; the straight-through estimator (STE, Bengio et al. 2013) is back-propagation with one.
"""

import functools
import inspect
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from jaxnas.core.errors import UserError, choose
from jaxnas.core.types import Array, Key

Activation = Callable[[Array], Array]


def sign(values: Array) -> Array:
    """±1 of the same shape and type, +1 at zero; its derivative is zero."""
    return jnp.where(values >= 0, 1, -1).astype(values.dtype)


def identity() -> Activation:
    """1 everywhere: the sign is taken for the identity (Hinton's lectures 2012; Bengio et al. 2013)."""
    return jnp.ones_like


def clipped(threshold: float = 1.0) -> Activation:
    """1 where |a| ≤ threshold, else 0: the vanilla STE (Courbariaux et al. 2016), of a clipped identity."""
    return lambda values: (jnp.abs(values) <= threshold).astype(values.dtype)


def steep(slope: float = 2.0) -> Activation:
    """`slope` where |a| ≤ 1 / slope, else 0: the vanilla STE of a steeper, narrower ramp of the same height."""
    return lambda values: slope * (jnp.abs(values) <= 1 / slope).astype(values.dtype)


def swish_sign(beta: float = 5.0) -> Activation:
    """β (2 - βa tanh(βa / 2)) / (1 + cosh βa): of SwishSign, 2σ(βa)(1 + βa (1 - σ(βa))) - 1 (BNN+, Darabi et al. 2018).

    It is negative in the tails, where SwishSign overshoots ±1.
    """

    def derivative(values):
        # 1 / (1 + cosh z) = 2 σ(z) σ(-z), which does not overflow.
        scaled = beta * values
        bell = 2 * jax.nn.sigmoid(scaled) * jax.nn.sigmoid(-scaled)
        return beta * (2 - scaled * jnp.tanh(scaled / 2)) * bell

    return derivative


def polynomial() -> Activation:
    """2 - 2|a| where |a| ≤ 1, else 0: of a piecewise quadratic (Bi-Real Net, Liu et al. 2018, eq. 7)."""
    return lambda values: jnp.maximum(2 - 2 * jnp.abs(values), 0)


def tanh(beta: float = 1.0) -> Activation:
    """β (1 - tanh² βa): of tanh βa."""
    return lambda values: beta * (1 - jnp.tanh(beta * values) ** 2)


SURROGATES: Mapping[str, Callable[..., Activation]] = {
    "identity": identity,
    "clipped": clipped,
    "steep": steep,
    "swish_sign": swish_sign,
    "polynomial": polynomial,
    "tanh": tanh,
}


def straight_through(surrogate: str = "clipped", **settings: float) -> Activation:
    """The sign with a surrogate's derivative, for any layer; the same function for the same arguments.

    surrogate: a name of SURROGATES; settings: its arguments. Raises UserError for an unknown name and for settings
    that are not positive.
    """
    choose("surrogate", surrogate, SURROGATES)
    known = inspect.signature(SURROGATES[surrogate]).parameters
    for name, value in settings.items():
        if name not in known:
            has = f"its only one is {', '.join(known)}" if known else "it has none"
            raise UserError(f"the surrogate {surrogate!r} has no setting {name!r}; {has}.")
        if not value > 0:
            raise UserError(f"{name} of the surrogate {surrogate!r} must be positive, not {value}.")
    return _straight_through(surrogate, tuple(sorted(settings.items())))


@functools.cache  # so that a function jitted with it as a static argument is traced once
def _straight_through(surrogate: str, settings: tuple[tuple[str, float], ...]) -> Activation:
    derivative = SURROGATES[surrogate](**dict(settings))

    @jax.custom_jvp
    def activation(values: Array) -> Array:
        return sign(values)

    @activation.defjvp
    def _(primals, tangents):
        (values,), (direction,) = primals, tangents
        return activation(values), derivative(values) * direction

    return activation


def stochastic_sign(key: Key, values: Array) -> Array:
    """±1 drawn with mean clip(a, -1, 1), the derivative of that mean straight through (stochastic rounding).

    Source: Courbariaux et al. 2016, eq. 2-3: P(+1) = clip((a + 1) / 2, 0, 1).
    """
    mean = jnp.clip(values, -1, 1)
    drawn = jnp.where(2 * jax.random.uniform(key, values.shape, values.dtype) - 1 < mean, 1, -1).astype(values.dtype)
    return jax.lax.stop_gradient(drawn) + (mean - jax.lax.stop_gradient(mean))
