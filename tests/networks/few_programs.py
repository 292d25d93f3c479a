"""What tests of networks share. What only prepares or compares is NumPy: eager JAX compiles every single operation."""

import functools
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.core.types import Space
from jaxnas.layers import backend
from jaxnas.spaces.space import random


def one_program(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, compiled; it answers with NumPy arrays, so that what follows compiles nothing either."""
    run = jax.jit(function)
    return lambda *arguments: jax.device_get(run(*arguments))


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    """Random numbers, such as images, in the precision that JAX has at present."""
    return np.random.default_rng(seed).normal(size=shape).astype(jnp.result_type(float))


def normalized(images: Any) -> Any:
    """By the statistics of the batch; neither scale nor shift."""
    return (images - images.mean((0, 1, 2))) / np.sqrt(images.var((0, 1, 2)) + 1e-5)


def convolved(images: Any, kernel: Any, strides: tuple[int, int] = (1, 1), groups: int = 1) -> np.ndarray:
    """By definition, with kernels [height, width, in / groups, out] of odd sizes; edges are padded by zeros."""
    height, width = kernel.shape[:2]
    padded = np.pad(images, ((0, 0), (height // 2,) * 2, (width // 2,) * 2, (0, 0)))
    patches = np.lib.stride_tricks.sliding_window_view(padded, (height, width), (1, 2))
    pairs = zip(
        np.split(patches[:, :: strides[0], :: strides[1]], groups, axis=3),
        np.split(np.asarray(kernel), groups, axis=3),
        strict=True,
    )
    return np.concatenate([np.einsum("nhwcij,ijco->nhwo", *pair) for pair in pairs], axis=-1)


def init_and_apply(module: Any, *inputs: Any, rate: float | None = None) -> Any:
    """New variables of a module and its output in training, with drop path where a rate is told."""
    rates = () if rate is None else (rate,)
    variables = module.init(jax.random.key(1), *inputs, False, *rates)
    rngs = {"drop_path": jax.random.key(2)}
    return variables, module.apply(variables, *inputs, True, *rates, mutable=["batch_stats"], rngs=rngs)[0]


def applied(module: Any, *inputs: Any, rate: float | None = None) -> Any:
    """`init_and_apply` by one program."""
    return one_program(functools.partial(init_and_apply, module, rate=rate))(*inputs)


def trained(network: Any, variables: Any, images: Any) -> Any:
    """Logits of a stand-alone network in training, auxiliary ones, and updates of its statistics."""

    def run(variables: Any, images: Any) -> Any:
        return network.apply(variables, images, train=True, mutable=["batch_stats"])

    (logits, auxiliary), updates = one_program(run)(variables, images)
    return logits, auxiliary, updates["batch_stats"]


def trained_on_devices(network: Any, variables: Any, images: Any) -> Any:
    """Logits and updates of the statistics where devices that each have some images share these; of the first one."""
    shared = network.clone(axis_name="devices")

    def run(images: Any) -> Any:
        return shared.apply(variables, images, train=True, mutable=["batch_stats"])

    (logits, _), updates = one_program(jax.vmap(run, axis_name="devices"))(images)
    return logits, jax.tree.map(lambda leaf: leaf[0], updates["batch_stats"])


def initial(network: Any) -> Any:
    """Weights of a supernet, as they start; float64."""
    params = one_program(lambda: network.init(jax.random.key(0)))()
    return jax.tree.map(np.float64, params)


def perturbed(network: Any, by: float = 0.1) -> Any:
    """Weights of a supernet that no two places share, and whose scales and shifts are not one and zero; float64."""
    generator = np.random.default_rng(1)
    return jax.tree.map(lambda leaf: leaf + by * generator.normal(size=leaf.shape), initial(network))


def architectures(space: Space, seeds: Iterable[int]) -> list[Any]:
    """Random ones, by one program."""
    draw = one_program(lambda seed: random(space, jax.random.key(seed)))
    return [draw(seed) for seed in seeds]


def one_hot(space: Space, architecture: Any) -> dict[str, np.ndarray]:
    """What `encode` answers with, in float64."""
    return {part: np.eye(options)[np.asarray(architecture[part])] for part, (_, options) in space.shapes.items()}


def soft_gates(space: Space, seed: int = 3) -> dict[str, np.ndarray]:
    """Probabilities of all options that there are; float64."""
    generator = np.random.default_rng(seed)
    odds = {part: space.allowed[part] * np.exp(generator.normal(size=shape)) for part, shape in space.shapes.items()}
    return {part: values / values.sum(axis=-1, keepdims=True) for part, values in odds.items()}


def largest(gates: np.ndarray, count: int) -> np.ndarray:
    """Zeros in place of all but so many of each row."""
    return np.where(gates < np.sort(gates)[:, -count, None], 0.0, gates)


def of_positive(gates: Any, gradient: Any) -> Any:
    """The gradient where gates are above zero, zeros elsewhere."""
    return jax.tree.map(lambda gate, bar: np.where(gate > 0, bar, 0.0), gates, gradient)


def value_and_gradients(network: Any) -> Callable[..., Any]:
    """Compiled: (params, gates, images, noise) -> logits, gradients of a score of them for params, and for gates.

    With the library's convolutions, which compile faster; `test_primitives` compares them with ours.
    """

    def loss(params: Any, gates: Any, images: Any, noise: Any) -> Any:
        logits = network.apply(params, gates, images, noise)
        return jnp.sum(jnp.sin(logits)), logits

    def run(params: Any, gates: Any, images: Any, noise: Any = None) -> Any:
        with backend.use("library"):
            gradients, logits = jax.grad(loss, argnums=(0, 1), has_aux=True)(params, gates, images, noise)
        return logits, *gradients

    return one_program(run)


def assert_close(actual: Any, expected: Any, rtol: float = 1e-7, atol: float = 1e-9) -> None:
    """In float64, with sums in another order."""
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=atol), actual, expected)
