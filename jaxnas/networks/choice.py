"""A choice between branches of which only a few run: the ones of the largest gates, forward and backward."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from jaxnas.core.types import Array, PyTree
from jaxnas.layers import backend


def materialized(weights: PyTree) -> PyTree:
    """Copies a loop's slice of the weights by a product with the identity.

    XLA:CPU would fuse the slicing into every tap of every convolution, optimization barrier or not.
    """
    if backend.implementation() != "cpu":
        return weights
    return jax.tree.map(
        lambda leaf: (leaf.reshape(-1, leaf.shape[-1]) @ jnp.eye(leaf.shape[-1], dtype=leaf.dtype)).reshape(leaf.shape),
        weights,
    )


Branch = Callable[
    [PyTree, PyTree, PyTree], Array
]  # (inputs, weights, noise) -> output, the same shape for every branch


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def run_paths(
    branches: tuple[Branch, ...],
    paths: int,
    bare_gates: bool,
    inputs: PyTree,
    weights: PyTree,
    gates: Array,
    noise: PyTree = None,
) -> Array:
    """Σ of gate · branch(inputs, weights, noise) over the `paths` branches of largest gate; gates [branches].

    The full mixture wherever the other gates are zero. Residuals are the inputs alone: a branch runs again on the way
    back. The gates of branches that did not run get no gradient or, with bare_gates, that of being added bare to the
    output, as in the published code of GDAS. No gradient flows to `noise`.
    """
    if paths == 1:
        index = jnp.argmax(gates)
        return gates[index] * lax.switch(index, branches, inputs, weights, noise)

    def add(total: Array, index: Array) -> tuple[Array, None]:
        return total + gates[index] * lax.switch(index, branches, inputs, weights, noise), None

    output = jax.eval_shape(branches[0], inputs, weights, noise)
    return lax.scan(add, jnp.zeros(output.shape, output.dtype), _largest(gates, paths))[0]


def _largest(gates: Array, paths: int) -> Array:
    return lax.top_k(gates, paths)[1]


def _forward(branches, paths, bare_gates, inputs, weights, gates, noise):
    return run_paths(branches, paths, bare_gates, inputs, weights, gates, noise), (inputs, weights, gates, noise)


def _backward(branches, paths, bare_gates, residuals, cotangent):
    """A switch over per-branch derivatives: the derivative of a switch would carry every branch's residuals."""
    inputs, weights, gates, noise = residuals
    others = jnp.sum(cotangent) if bare_gates else jnp.zeros((), gates.dtype)

    def pulled_back(branch: Branch) -> Callable[..., PyTree]:
        def run(gate, inputs, weights, noise, cotangent):
            output, pullback = jax.vjp(lambda inputs, weights: branch(inputs, weights, noise), inputs, weights)
            return *pullback(gate * cotangent), jnp.vdot(output, cotangent)

        return run

    derivatives = [pulled_back(branch) for branch in branches]

    def along(index: Array) -> tuple[PyTree, PyTree, Array]:
        return lax.switch(index, derivatives, gates[index], inputs, weights, noise, cotangent)

    if paths == 1:
        index = jnp.argmax(gates)
        inputs_bar, weights_bar, gate_bar = along(index)
        return inputs_bar, weights_bar, jnp.where(jnp.arange(len(gates)) == index, gate_bar, others), None

    def add(sums: PyTree, index: Array) -> tuple[PyTree, None]:
        inputs_bar, weights_bar, gate_bar = along(index)
        totals = jax.tree.map(jnp.add, sums[:2], (inputs_bar, weights_bar))
        return (*totals, sums[2].at[index].set(gate_bar)), None

    start = (*jax.tree.map(jnp.zeros_like, (inputs, weights)), jnp.full_like(gates, others))
    return *lax.scan(add, start, _largest(gates, paths))[0], None


run_paths.defvjp(_forward, _backward)
