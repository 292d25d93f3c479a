"""What elastic networks cost: one program for all subnets, switching between them, extracting them, predicting them."""

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxnas.core.types import Architecture, Network, Params
from jaxnas.evaluate.speed import CLASSES, SIZE, measure, timed
from jaxnas.layers import backend
from jaxnas.methods.predicted import PUBLISHED, evolve, published_evolution
from jaxnas.networks.families import FAMILIES
from jaxnas.networks.family import Family, Images
from jaxnas.search.objectives import cross_entropy
from jaxnas.search.predictor import predict, untrained
from jaxnas.search.subnets import named_subnets
from jaxnas.spaces.space import encode, random
from jaxnas.strategies.strategy import Problem

SWITCHES = 12  # random architectures that the compiled step is called with, one after another
CALLS = 3


def elastic_suite(space: dict[str, Any], batch_size: int) -> dict[str, Any]:
    """The figures of an elastic space, given by its settings.

    {"rows": a step of the largest and of the smallest subnet, masked in the supernet and by itself, with the seconds
    of compiling; "traces": how often the masked step was traced for all of its architectures; "switch": the slowest
    first step with another architecture, × the largest's; "candidates_per_second": of evolution over predictions}.
    """
    images = Images(SIZE, SIZE, 3, CLASSES)
    family = FAMILIES[space["name"]](images, **{name: value for name, value in space.items() if name != "name"})
    ends = {name: one for name, one in named_subnets(family.space).items() if name != "middle"}
    batch = jax.random.normal(jax.random.key(0), (batch_size, *images.shape)), jnp.arange(batch_size) % CLASSES
    network = family.supernet(paths=1)
    params = jax.jit(network.init)(jax.random.key(1))
    traces: list[int] = []
    masked = measure("largest, masked", _masked_step(family, network, []), params, ends["largest"], *batch, calls=CALLS)
    program = jax.jit(_masked_step(family, network, traces), compiler_options=backend.compiler_options())
    times = {name: min(timed(program, params, end, *batch, calls=CALLS)) for name, end in ends.items()}
    switches = [_first_call(program, params, one, batch) for one in _several(family)]
    rows = [
        masked._asdict() | {"call": times["largest"]},
        {"name": "smallest, masked", "call": times["smallest"], "compile": 0.0, "compile_cached": 0.0},
        *(_alone(family, network, params, name, end, batch)._asdict() for name, end in ends.items()),
    ]
    return {
        "batch_size": batch_size,
        "rows": [row | {"ratio": row["call"] / times["largest"]} for row in rows],
        "traces": len(traces),
        "switches": len(switches),
        "switch": max(switches) / times["largest"],
        "candidates_per_second": candidates_per_second(family),
    }


def _several(family: Family) -> list[Architecture]:
    draw = jax.jit(lambda key: random(family.space, key))
    return [draw(key) for key in jax.random.split(jax.random.key(2), SWITCHES)]


def _masked_step(family: Family, network: Network, traces: list[int]) -> Callable[..., tuple[Array, Params]]:
    """The loss of a subnet and its gradient; every trace adds to `traces`."""

    def step(params: Params, architecture: Architecture, images: Array, labels: Array) -> tuple[Array, Params]:
        traces.append(1)
        gates = encode(family.space, architecture)
        return jax.value_and_grad(lambda params: cross_entropy(network.apply(params, gates, images), labels))(params)

    return step


def _first_call(program: Callable[..., Any], params: Params, one: Architecture, batch: tuple[Array, Array]) -> float:
    """Seconds of the first step with an architecture that the program has not seen."""
    begin = time.perf_counter()
    jax.block_until_ready(program(params, one, *batch))
    return time.perf_counter() - begin


def _alone(
    family: Family, network: Network, params: Params, name: str, end: Architecture, batch: tuple[Array, Array]
) -> Any:
    """A step of an extracted subnet."""
    alone = family.network(end, None)
    assert network.extract is not None
    variables = network.extract(params, end)

    def loss(weights: Params, images: Array, labels: Array) -> Array:
        of = {**variables, "params": weights}
        (logits, _), _ = alone.apply(of, images, train=True, mutable=["batch_stats"])
        return cross_entropy(logits, labels)

    return measure(f"{name}, extracted", jax.value_and_grad(loss), variables["params"], *batch, calls=CALLS)


def candidates_per_second(family: Family) -> float:
    """Architectures that evolution over predictions proposes, predicts and ranks in a second, as published."""
    problem = Problem(family.space)
    predictor = untrained(family.space, PUBLISHED, jax.random.key(0))
    strategy = published_evolution(problem)

    def search(key: Any) -> Any:
        return evolve(problem, lambda several: predict(predictor, family.space, several), strategy, ROUNDS, key)

    return ROUNDS * strategy.batch / measure("evolution", search, jax.random.key(3), calls=CALLS).call


ROUNDS = 500
