"""What the settings of evolution strategies have to be: checked before anything is computed."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxnas.core.errors import UserError, choose
from jaxnas.core.types import PyTree

SHAPINGS = ("raw", "rank")
BASELINES = ("none", "mean", "leave_one_out")


def check_settings(
    population: int, sigma: PyTree, antithetic: bool, shaping: str, baseline: str, orthogonal: int, chunk: int
) -> None:
    """Raises UserError for settings that do not fit, whatever the parameters: see `nes.nes_gradients`."""
    for name, value, least in (("population", population, 1), ("orthogonal", orthogonal, 0), ("chunk", chunk, 1)):
        if not isinstance(value, int | np.integer) or value < least:
            raise UserError(f"{name} must be a whole number of at least {least}, not {value}.")
    if population >= 2**31:
        raise UserError(f"population must be below 2³¹, because samples are numbered by 32 bits, not {population}.")
    if antithetic and population % 2:
        raise UserError(
            f"population must be even, because antithetic samples come in pairs, not {population}; "
            f"{population + 1} is the next."
        )
    for value in jax.tree.leaves(sigma):
        if not isinstance(value, Tracer) and not np.all((np.asarray(value) > 0) & np.isfinite(value)):
            raise UserError(f"sigma must be positive and finite, not {value}; 0.1 is a usual value.")
    choose("shaping", shaping, dict.fromkeys(SHAPINGS))
    choose("baseline", baseline, dict.fromkeys(BASELINES))
    check_baseline(baseline, population, 2 if antithetic else 1)


def check_baseline(baseline: str, population: int, group: int) -> None:
    """Raises UserError where one group of samples that depend on each other is all there is to leave out."""
    if baseline == "leave_one_out" and population <= group:
        raise UserError(
            f"the baseline leave_one_out needs a population of more than {group}, as many as depend on each other, not "
            f"{population}."
        )


def check_trees(
    params: PyTree, sigma: PyTree, shaping: str, control: PyTree, shift: PyTree, subspace: Sequence[PyTree]
) -> None:
    """Raises UserError for pytrees that do not fit the parameters, or each other."""
    if not all(jnp.issubdtype(jnp.result_type(leaf), jnp.floating) for leaf in jax.tree.leaves(params)):
        raise UserError("params must hold floats only, because noise is added to all of them.")
    trees = {"control": control, "shift": shift} | {f"direction {i} of subspace": d for i, d in enumerate(subspace)}
    for name, tree in trees.items():
        if tree is not None and _shapes(tree) != _shapes(params):
            raise UserError(f"{name} must be a pytree with the structure and the shapes of the parameters.")
    if control is not None and shaping == "rank":
        raise UserError("a control needs the shaping 'raw', because it predicts losses and not their ranks.")
    if is_scalar(sigma):
        return
    if subspace:
        raise UserError("sigma must be one number within a subspace, not a pytree.")
    fits = jax.tree.structure(sigma) == jax.tree.structure(params) and all(
        jnp.shape(one) in ((), jnp.shape(leaf))
        for one, leaf in zip(jax.tree.leaves(sigma), jax.tree.leaves(params), strict=True)
    )
    if not fits:
        raise UserError(
            "sigma must be one number or a pytree with the structure of the parameters, with their shapes or one "
            "number for each leaf."
        )


def is_scalar(tree: PyTree) -> bool:
    """Whether a pytree is a single number, and not a container with one."""
    return jax.tree.structure(tree) == jax.tree.structure(0) and jnp.ndim(tree) == 0


def _shapes(tree: PyTree) -> Any:
    return jax.tree.structure(tree), [jnp.shape(leaf) for leaf in jax.tree.leaves(tree)]
