"""How fast the lab is: every figure a ratio of two programs of one run, on the same core."""

import importlib
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

from jaxnas.core.types import Array, Params
from jaxnas.estimators.coordinate import coordinate_differences
from jaxnas.estimators.nes import nes
from jaxnas.estimators.smoothed import smoothed
from jaxnas.estimators.structured import structured_differences
from jaxnas.evaluate.lab.event_sweep import naive_sweep, sweep
from jaxnas.evaluate.speed import matrix_product_rate, measure
from jaxnas.networks import sign_network
from jaxnas.networks.sign_tiles import tiled_loss

LAYERS, SIGMA, EPSILON = 3, 0.1, 0.1
BATCH, LARGE_BATCH = 16_384, 160_000
POPULATION, SEED_POPULATION = 128, 50_000
RATES = np.arange(1, 50_001) * 1e-5
COORDINATES, FEW_RATES = 64, 24  # how much of the naive programs is run; the rest is more of the same


class Ratio(NamedTuple):
    """One line of the suite. seconds: of the thing and of what it is compared with; target: what it should reach."""

    name: str
    seconds: float
    compared_with: str
    other_seconds: float | None
    ratio: float
    target: float


class Problem(NamedTuple):
    """A student and its data: targets are those of a teacher of the same shape."""

    params: Params
    x: Array
    y: Array


def problem(width: int, batch: int) -> Problem:
    """A bias-carrying network width -> width -> width -> 1 and `batch` examples."""
    keys = jax.random.split(jax.random.key(0), 3)
    widths = (*[width] * LAYERS, 1)
    teacher, student = (sign_network.init(key, widths) for key in keys[:2])
    x = jax.random.normal(keys[2], (batch, width))
    return Problem(student, x, sign_network.apply(teacher, x))


def _objective(loss: Callable[..., Array], x: Array, y: Array) -> Callable[[Params], tuple[Array, dict[str, Array]]]:
    return lambda params: (loss(params, x, y), {})


def nes_seconds(made: Problem, population: int) -> float:
    """Seconds of one sampled NES gradient."""

    def gradient(key, params, x, y):
        estimator = nes(population=population, sigma=SIGMA)
        return estimator(key, params, jnp.zeros((), jnp.int32), _objective(tiled_loss, x, y)).gradient

    return measure("nes", gradient, jax.random.key(1), *made, calls=3).call


def naive_nes_seconds(made: Problem, population: int) -> float:
    """The same with the whole population at once: noise [population, parameters] and a vmap over it."""

    def gradient(key, params, x, y):
        flat, restore = ravel_pytree(params)
        noise = jax.random.normal(key, (population, flat.size))
        fitness = jax.vmap(lambda one: sign_network.loss(restore(flat + SIGMA * one), x, y))(noise)
        return fitness @ noise / (population * SIGMA)

    return measure("naive nes", gradient, jax.random.key(1), *made, calls=3).call


def evosax_seconds(made: Problem, population: int) -> float | None:
    """One ask and tell of evosax's Open_ES on the same fitness; None where evosax is not installed."""
    try:
        algorithms = importlib.import_module("evosax.algorithms")
        shaping = importlib.import_module("evosax.core.fitness_shaping")
    except ImportError:
        return None
    strategy = algorithms.Open_ES(
        population_size=population,
        solution=made.params,
        optimizer=optax.sgd(1.0),
        std_schedule=optax.constant_schedule(SIGMA),
        fitness_shaping_fn=shaping.identity_fitness_shaping_fn,
    )
    settings = strategy.default_params
    state = strategy.init(jax.random.key(1), made.params, settings)

    def generation(key, state, x, y):
        members, state = strategy.ask(key, state, settings)
        fitness = jax.vmap(lambda one: sign_network.loss(one, x, y))(members)
        return strategy.tell(key, members, fitness, state, settings)[0].mean

    return measure("evosax", generation, jax.random.key(2), state, made.x, made.y, calls=3).call


def naive_differences_seconds(made: Problem) -> float:
    """Seconds of naive coordinate differences for all parameters, from those of some."""
    total = sum(leaf.size for leaf in jax.tree.leaves(made.params))
    few = min(COORDINATES, total)

    def gradient(key, params, x, y):
        estimator = coordinate_differences(EPSILON, coordinates=few)
        return estimator(key, params, jnp.zeros((), jnp.int32), _objective(sign_network.loss, x, y)).gradient

    return measure("naive differences", gradient, jax.random.key(1), *made, calls=2).call * total / few


def _median_seconds(function: Callable[[], Any], calls: int) -> float:
    times = []
    for _ in range(calls):
        start = time.perf_counter()
        jax.block_until_ready(function())
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def lab_suite() -> dict[str, Any]:
    """Measures the lab's programs against what they replace; see docs/lab.md for the targets' origin."""
    rows, rates = [], []
    for width in (32, 64):
        made = problem(width, BATCH)
        # A core's rate changes by a tenth within minutes: it is measured before and after what it is compared with.
        before, ours, after = matrix_product_rate(), nes_seconds(made, POPULATION), matrix_product_rate()
        rate = (before + after) / 2
        rates.append(rate)
        flops = 2 * POPULATION * BATCH * ((LAYERS - 1) * width**2 + width)
        rows.append(Ratio(f"NES, width {width}", ours, "matrix product", flops / rate, flops / ours / rate, 0.85))
        for name, other in (
            ("vmap", naive_nes_seconds(made, POPULATION)),
            ("evosax", evosax_seconds(made, POPULATION)),
        ):
            if other is not None:
                rows.append(Ratio(f"NES, width {width}", ours, name, other, other / ours, 3.0))
    made = problem(64, BATCH)
    ours = measure("structured", lambda *arrays: structured_differences(*arrays, epsilon=EPSILON), *made, calls=5).call
    other = naive_differences_seconds(made)
    rows.append(Ratio("structured differences, width 64", ours, "naive", other, other / ours, 2000.0))
    rows += _large_batch()
    return {"matrix_product_gflops": float(np.mean(rates)) / 1e9, "rows": [row._asdict() for row in rows]}


def _large_batch() -> list[Ratio]:
    """The sweep and the smoothed gradient at the seed's batch, width 32."""
    made = problem(32, LARGE_BATCH)
    smooth = measure("smoothed", lambda key, *arrays: smoothed(key, *arrays, sigma=SIGMA), jax.random.key(1), *made)
    nes_all = nes_seconds(made, 64) * SEED_POPULATION / 64
    direction = jax.jit(lambda *arrays: smoothed(jax.random.key(2), *arrays, sigma=SIGMA))(*made)
    norm = jnp.sqrt(sum(jnp.vdot(leaf, leaf) for leaf in jax.tree.leaves(direction)))
    direction = jax.tree.map(lambda leaf: leaf / norm, direction)
    swept = _median_seconds(lambda: sweep(made.params, direction, made.x, made.y, RATES).losses, 3)
    few = RATES[:: len(RATES) // FEW_RATES][:FEW_RATES]
    naive = _median_seconds(lambda: naive_sweep(made.params, direction, made.x, made.y, few), 2) * len(RATES) / len(few)
    return [
        Ratio("smoothed gradient, width 32", smooth.call, "NES of 50,000", nes_all, nes_all / smooth.call, 1500.0),
        Ratio("event sweep, 50,000 rates, width 32", swept, "naive sweep", naive, naive / swept, 1500.0),
    ]
