"""How fast architectures are drawn, changed, priced and judged, and what deciding about them adds to a search."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxnas.core.types import Architecture, Array, Batch, Gates, Key, Space
from jaxnas.costs.terms import params_cost
from jaxnas.evaluate.speed import CLASSES, SIZE, measure, timed
from jaxnas.layers.backend import compiler_options
from jaxnas.networks.families import FAMILIES
from jaxnas.networks.family import Family, Images
from jaxnas.search import optimizers
from jaxnas.search.objectives import Batches, SearchState, classification
from jaxnas.search.paths import uniform_paths
from jaxnas.search.updates import learn_weights
from jaxnas.spaces.space import crossover, encode, mutate, random
from jaxnas.strategies.evolution import evolution
from jaxnas.strategies.policy import factorised
from jaxnas.strategies.policy_gradient import reinforce
from jaxnas.strategies.strategy import Problem, Strategy, outcome_of

MANY = 16_384  # architectures at once
POPULATION = 16  # candidates that are judged one after another
CALLS = 10


def architecture_rates(family: Family, images: Images) -> dict[str, float]:
    """Architectures of a space a second, jitted and batched: "random", "mutate", "crossover" and "price"."""
    space, cost = family.space, params_cost(family, images)

    def keys(seed: int) -> Key:
        return jax.random.split(jax.random.key(seed), MANY)

    def drawn(keys: Key) -> Architecture:
        return jax.vmap(lambda key: random(space, key))(keys)

    def mutated(keys: Key, of: Architecture) -> Architecture:
        return jax.vmap(lambda key, one: mutate(space, key, one, 0.1))(keys, of)

    def crossed(keys: Key, of: Architecture, others: Architecture) -> Architecture:
        return jax.vmap(lambda key, one, other: crossover(space, key, one, other))(keys, of, others)

    def priced(of: Architecture) -> Array:
        return jax.vmap(lambda one: cost(encode(space, one)))(of)

    first, second = jax.jit(drawn)(keys(0)), jax.jit(drawn)(keys(1))
    measured = {
        "random": measure("random", drawn, keys(2), calls=CALLS),
        "mutate": measure("mutate", mutated, keys(3), first, calls=CALLS),
        "crossover": measure("crossover", crossed, keys(4), first, second, calls=CALLS),
        "price": measure("price", priced, first, calls=CALLS),
    }
    return {name: MANY / one.call for name, one in measured.items()}


def judging(family: Family, images: Images, batch_size: int) -> dict[str, float]:
    """Seconds for a batch through single paths: of a "candidate" in a program of its own, the mean of a population, and
    of the "population" in one program.

    "ratio": of the second to the sum of the first; if every candidate ran all branches, it would be their number.
    """
    space, network = family.space, family.supernet(paths=1)
    params = jax.jit(network.init)(jax.random.key(0))
    batch = jax.random.normal(jax.random.key(1), (batch_size, *images.shape))
    keys = jax.random.split(jax.random.key(2), POPULATION)
    population = jax.jit(jax.vmap(lambda key: random(space, key)))(keys)

    def one(architecture: Architecture) -> Array:
        return network.apply(params, encode(space, architecture), batch)

    def judged(of: Architecture) -> Array:
        return jax.lax.map(one, of)

    alone = jax.jit(judged, compiler_options=compiler_options())
    times = [min(timed(alone, _row(population, number), calls=3)) for number in range(POPULATION)]
    together = measure("population", judged, population, calls=CALLS).call
    return {"candidate": sum(times) / POPULATION, "population": together, "ratio": together / sum(times)}


def _row(architectures: Architecture, number: int) -> Architecture:
    return {part: rows[number : number + 1] for part, rows in architectures.items()}


def deciding(family: Family, images: Images, batch_size: int) -> dict[str, float]:
    """Seconds of a step of the shared weights, and of a round of strategies without the judging.

    "step": a training step of one path. "evolution", "reinforce": asking, and telling of the answers. A round decides
    about POPULATION candidates, each of which costs at least a forward pass, so that its share of a step is an upper
    bound for what deciding adds where a round stands beside one step.
    """
    problem = Problem(family.space)
    strategies: Mapping[str, Strategy] = {
        "evolution": evolution(
            problem,
            population=POPULATION,
            parents=POPULATION // 2,
            mutants=POPULATION // 2,
            crossovers=POPULATION // 2,
            mutation_rate=0.1,
        ),
        "reinforce": reinforce(
            problem,
            factorised(family.space),
            batch=POPULATION,
            learning_rate=0.1,
            entropy_weight=0.001,
            baseline_decay=0.9,
            clip=0.0,
        ),
    }
    programs = {name: _round(problem, strategy) for name, strategy in strategies.items()}
    programs["step"] = _training_step(family, images, batch_size)
    return {name: measure(name, one, *given, calls=CALLS).call for name, (one, given) in programs.items()}


def _round(problem: Problem, strategy: Strategy) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    def one_round(key: Key, state: Any) -> Any:
        ask, tell, judged = jax.random.split(key, 3)
        proposal = strategy.ask(ask, state)
        accuracies = jax.random.uniform(judged, (strategy.batch,))
        return strategy.tell(tell, state, proposal, outcome_of(problem, proposal.architectures, accuracies))

    return one_round, (jax.random.key(0), jax.jit(strategy.init)(jax.random.key(1)))


def _training_step(family: Family, images: Images, batch_size: int) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    space, network = family.space, family.supernet(paths=1)
    optimizer = optimizers.skip_inactive(optimizers.sgd(0.025, momentum=0.9, weight_decay=3e-4, clip=5.0))
    learn = learn_weights(uniform_paths(space), classification(network), optimizer, network.active)
    params = jax.jit(network.init)(jax.random.key(0))
    state = SearchState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        weights_state=optimizer.init(params),
        logits=_zeros(space),
        logits_state=(),
        allowed={part: jnp.asarray(mask) for part, mask in space.allowed.items()},
        memory=(),
    )
    batch = Batch(
        jax.random.normal(jax.random.key(1), (batch_size, *images.shape)),
        jnp.arange(batch_size) % images.classes,
    )
    return learn, (jax.random.key(2), state, Batches(batch, batch))


def _zeros(space: Space) -> Gates:
    return {part: jnp.zeros(shape) for part, shape in space.shapes.items()}


def architecture_suite(cells: dict[str, Any], chain: dict[str, Any], batch_size: int) -> dict[str, Any]:
    """The figures of two spaces, given by their settings: rates in two cells, judging and deciding in a chain."""
    images = Images(SIZE, SIZE, 3, CLASSES)
    retrained = {"retrain_channels": 36, "retrain_layers": 20, "retrain_auxiliary": False}
    of_cells, of_chain = (
        FAMILIES[given["name"]](images, **{name: value for name, value in given.items() if name != "name"})
        for given in (cells | retrained, chain)
    )
    return {
        "rates": architecture_rates(of_cells, images),
        "judging": judging(of_chain, images, batch_size),
        "deciding": deciding(of_chain, images, batch_size),
        "population": POPULATION,
        "batch_size": batch_size,
    }
