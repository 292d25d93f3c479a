"""How a cost enters what a search minimises (a loss) or maximises (a reward), by name: see `PENALTIES`.

Costs are positive numbers in a unit of the user's choice: milliseconds, parameters, multiply-adds. Weights do not
depend on that unit where there is a reference to divide by. All functions are elementwise and differentiable.
"""

import math
from collections.abc import Callable, Mapping

import jax.numpy as jnp

from jaxnas.core.errors import UserError
from jaxnas.core.types import Array

Penalty = Callable[[Array, Array], Array]  # (loss or reward, cost) -> what to minimise, or to maximise


def linear(weight: float, reference: float) -> Penalty:
    """Loss + weight · cost / reference, as in ProxylessNAS (Cai, Zhu & Han 2019, equation 5, reference 1).

    Raises UserError for a negative weight and a reference that is not above 0.
    """
    _check_weight(weight)
    _check_positive("reference", reference)
    return lambda loss, cost: loss + weight * cost / reference


def relative(weight: float, reference: float) -> Penalty:
    """Loss + weight · (cost - reference) / reference: `linear` less a constant, so that it is 0 at the reference.

    Raises UserError for a negative weight and a reference that is not above 0.
    """
    _check_weight(weight)
    _check_positive("reference", reference)
    return lambda loss, cost: loss + weight * (cost - reference) / reference


def power(exponent: float, reference: float) -> Penalty:
    """Loss · (cost / reference)^exponent, the multiplicative form that leaves the loss as it is at the reference.

    Raises UserError for a negative exponent, which would reward cost, and a reference that is not above 0.
    """
    _check_weight(exponent, "exponent")
    _check_positive("reference", reference)
    return lambda loss, cost: loss * (cost / reference) ** exponent


def log_power(alpha: float, beta: float) -> Penalty:
    """Loss · alpha · log(cost)^beta, natural logarithm (FBNet, Wu et al. 2019, equation 2; there 0.2 and 0.6).

    alpha scales the whole loss. The logarithm depends on the unit of the cost and has to be positive, so that every
    cost has to exceed 1 in its unit: `check_logarithm` tells. Raises UserError for an alpha or beta not above 0.
    """
    _check_positive("alpha", alpha)
    _check_positive("beta", beta)
    return lambda loss, cost: loss * alpha * jnp.log(cost) ** beta


def above(weight: float, threshold: float) -> Penalty:
    """Loss + weight · max(cost - threshold, 0) / threshold: nothing up to the threshold (as DSNAS, Hu et al. 2020).

    Raises UserError for a negative weight and a threshold that is not above 0.
    """
    _check_weight(weight)
    _check_positive("threshold", threshold)
    return lambda loss, cost: loss + weight * jnp.maximum(cost - threshold, 0.0) / threshold


def reward_power(target: float, exponent: float, hard: bool = False) -> Penalty:
    """Reward · (cost / target)^exponent, to be maximised (MnasNet, Tan et al. 2019, equation 2; there -0.07).

    hard: the exponent is 0 up to the target, so that only what exceeds it costs (there with exponent -1).
    Raises UserError for a target that is not above 0 and a positive exponent, which would reward cost.
    """
    _check_positive("target", target)
    if not (math.isfinite(exponent) and exponent <= 0):
        raise UserError(
            f"cost.penalty.exponent is {exponent}, but a reward falls with its cost: take 0 or less, such as -0.07."
        )

    def penalised(reward: Array, cost: Array) -> Array:
        ratio = jnp.maximum(cost / target, 1.0) if hard else cost / target
        return reward * ratio**exponent

    return penalised


PENALTIES: Mapping[str, Callable[..., Penalty]] = {
    "linear": linear,
    "relative": relative,
    "power": power,
    "log_power": log_power,
    "above": above,
    "reward_power": reward_power,
}


def check_logarithm(low: float, unit: str) -> None:
    """Raises UserError unless the lowest attainable cost, so many of `unit`, exceeds 1, as `log_power` needs it."""
    if not low > 1:
        raise UserError(
            f"the penalty log_power takes the logarithm of the cost, which has to exceed 1 {unit}, but architectures "
            f"of this space cost as little as {low:.3g}; take a smaller unit, or the penalty linear."
        )


def _check_weight(value: float, name: str = "weight") -> None:
    if not (math.isfinite(value) and value >= 0):
        raise UserError(f"cost.penalty.{name} is {value}, but has to be a number of at least 0.")


def _check_positive(name: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0):
        raise UserError(f"cost.penalty.{name} is {value}, but has to be a number above 0.")
