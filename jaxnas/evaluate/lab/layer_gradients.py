"""Gradients for one kernel of a residual network with signs, by the estimators of this package.

All weights but that kernel stay as they are: the loss of a batch is a function of it alone, and estimators take it as
they take any other. NES draws its noise on that kernel only; coordinate differences are measured on some coordinates.
Lengths are in units of the kernel: normalisation makes the loss blind to its scale.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.core.types import Array, Batch, GradEstimator, Key, Params
from jaxnas.estimators.coordinate import coordinate_differences
from jaxnas.estimators.nes import nes
from jaxnas.estimators.stochastic import mean_of_draws
from jaxnas.evaluate.lab.contenders import Contender
from jaxnas.layers.backend import compiler_options
from jaxnas.networks import sign_resnet
from jaxnas.relax.binary import sign, stochastic_sign, straight_through

SHIFT = 0.1  # length of the step that NES may start from, in lengths of the kernel
Activation = Callable[[Array], Array]
Loss = Callable[[Array], Array]  # kernel -> scalar
Gradient = Callable[[Key, Params, Batch], Array]  # (key, all weights, batch) -> the kernel's gradient


class Layer(NamedTuple):
    """Which convolution: that of the block of this number. binary: whether kernels act by their signs."""

    block: int
    binary: bool

    def kernel(self, params: Params) -> Array:
        """Its kernel, [3, 3, in, out]."""
        return params["blocks"][self.block]["kernel"]

    def loss(self, params: Params, batch: Batch, activation: Activation = sign) -> Loss:
        """The mean cross-entropy of the batch as a function of the kernel; what comes before it is computed once."""
        entering = sign_resnet.before(params, batch.images, self.block, activation, self.binary)

        def loss(kernel: Array) -> Array:
            blocks = [dict(one) for one in params["blocks"]]
            blocks[self.block]["kernel"] = kernel
            changed = {**params, "blocks": tuple(blocks)}
            logits = sign_resnet.after(changed, entering, self.block, activation, self.binary)
            return sign_resnet.cross_entropy(logits, batch.labels)

        return loss


def step_losses(layer: Layer, rates: Array) -> Callable[[Params, Batch, Array], tuple[np.ndarray, np.ndarray]]:
    """(weights, batch, gradient) -> the loss before, and after a step at each rate, in lengths of the kernel."""

    @jax.jit
    def run(params: Params, batch: Batch, gradient: Array) -> tuple[Array, Array]:
        loss, kernel = layer.loss(params, batch), layer.kernel(params)
        length = jnp.linalg.norm(gradient)
        step = gradient * (jnp.linalg.norm(kernel) / jnp.where(length > 0, length, 1))
        return loss(kernel), jax.lax.map(lambda rate: loss(kernel - rate * step), rates)

    def losses(params: Params, batch: Batch, gradient: Array) -> tuple[np.ndarray, np.ndarray]:
        before, after = run(params, batch, gradient)
        return np.asarray(before, np.float64), np.asarray(after, np.float64)

    return losses


def cosine(gradient: np.ndarray, truth: np.ndarray) -> float:
    """The cosine on those coordinates that the truth has (others are NaN there); 0 where either is zero."""
    known = np.isfinite(truth)
    one, other = np.nan_to_num(np.asarray(gradient, np.float64))[known], np.asarray(truth, np.float64)[known]
    lengths = np.linalg.norm(one) * np.linalg.norm(other)
    return float(one @ other / lengths) if lengths > 0 else 0.0


def compiled(layer: Layer, who: Contender, coordinates: int) -> Gradient:
    """The contender's gradient for that layer; `coordinates` of them are measured by CDG, the others are NaN."""
    made = ESTIMATORS[who.name](layer, dict(who.settings), coordinates)
    return jax.jit(made, compiler_options=compiler_options())


def _ste(layer: Layer, settings: Mapping[str, Any], coordinates: int) -> Gradient:
    del coordinates
    activation = straight_through(**settings)
    return lambda key, params, batch: jax.grad(layer.loss(params, batch, activation))(layer.kernel(params))


def _sr_ste(layer: Layer, settings: Mapping[str, Any], coordinates: int) -> Gradient:
    del coordinates

    def run(key: Key, params: Params, batch: Batch) -> Array:
        def noisy(key, moved):
            keys = iter(jax.random.split(key, len(params["blocks"])))
            return layer.loss(params, batch, lambda values: stochastic_sign(next(keys), values))(moved["kernel"]), {}

        return _estimate(mean_of_draws(**{"draws": 1, **settings})(noisy), layer, key, params, batch)

    return run


def _cdg(layer: Layer, settings: Mapping[str, Any], coordinates: int) -> Gradient:
    def run(key: Key, params: Params, batch: Batch) -> Array:
        epsilon = settings["epsilon"] * _size(layer.kernel(params))
        return _estimate(coordinate_differences(epsilon, coordinates=coordinates), layer, key, params, batch)

    return run


def _nes(layer: Layer, settings: Mapping[str, Any], coordinates: int) -> Gradient:
    """Other gradients that it is helped by are STEs here: "ste", or the name of a surrogate."""
    named = [settings.get("control"), settings.get("shift"), *settings.get("subspace", ())]
    others = {
        name: _ste(layer, {"surrogate": "clipped" if name == "ste" else name}, coordinates)
        for name in named
        if name is not None
    }

    def run(key: Key, params: Params, batch: Batch) -> Array:
        kernel = layer.kernel(params)
        found = {name: {"kernel": other(key, params, batch)} for name, other in others.items()}
        changed: dict[str, Any] = {"sigma": settings["sigma"] * _size(kernel)}
        if "control" in settings:
            changed["control"] = found[settings["control"]]
        if "shift" in settings:
            direction = found[settings["shift"]]["kernel"]
            length = jnp.linalg.norm(direction)
            step = direction * (jnp.linalg.norm(kernel) / jnp.where(length > 0, length, 1))
            changed["shift"] = {"kernel": -SHIFT * step}
        if "subspace" in settings:
            changed["subspace"] = tuple(found[name] for name in settings["subspace"])
        return _estimate(nes(**{**settings, **changed}), layer, key, params, batch)

    return run


def _estimate(estimator: GradEstimator, layer: Layer, key: Key, params: Params, batch: Batch) -> Array:
    loss = layer.loss(params, batch)
    step = jnp.zeros((), jnp.int32)
    kernel = {"kernel": layer.kernel(params)}
    return estimator(key, kernel, step, lambda moved: (loss(moved["kernel"]), {})).gradient["kernel"]


def _size(kernel: Array) -> Array:
    """The root mean square."""
    return jnp.sqrt(jnp.mean(kernel**2))


# By the name in the lab's table: (layer, settings there, coordinates of CDG) -> gradient.
ESTIMATORS: Mapping[str, Callable[[Layer, Mapping[str, Any], int], Gradient]] = {
    "ste": _ste,
    "sr_ste": _sr_ste,
    "cdg": _cdg,
    "nes": _nes,
}
