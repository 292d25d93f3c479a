"""How fast the project's programs are, as ratios within one run: absolute times do not travel between machines."""

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxnas.core.types import Batch, Key
from jaxnas.costs.counting import mult_adds
from jaxnas.estimators.pathwise import pathwise
from jaxnas.layers import backend
from jaxnas.layers.operations import init_weights
from jaxnas.networks.cell_supernet import cell_supernet
from jaxnas.networks.mixed_cell import EVALUATIONS, Cell, default_evaluation, groups, weight_shapes
from jaxnas.relax import categorical
from jaxnas.search.objectives import Batches, SearchState, classification, first_order
from jaxnas.search.optimizers import adam, sgd, skip_inactive
from jaxnas.search.updates import learn_logits, learn_weights
from jaxnas.spaces.cell import OPERATIONS, cell_edges, cell_space
from jaxnas.train.loop import SECONDS_PER_CALL, compile_task
from jaxnas.train.parallel import Devices
from jaxnas.train.task import RunState, Task, init_run, rehearse

CHANNELS, LAYERS, SIZE, CLASSES = 16, 8, 32, 10  # the search network of the DARTS paper on CIFAR-10
MATRIX = 2048


class Measurement(NamedTuple):
    """One program. Seconds of tracing, of compiling (without and with the persistent cache) and of a call.

    call: the fastest of some calls; spread: the slowest divided by the fastest. temp_bytes: scratch memory.
    """

    name: str
    trace: float
    compile: float
    compile_cached: float
    call: float
    spread: float
    temp_bytes: int


def measure(name: str, function: Callable[..., Any], *arguments: Any, calls: int = 5) -> Measurement:
    """Traces, compiles twice and calls a function; the second compilation reads the persistent cache if one is set."""
    begin = time.perf_counter()
    lowered = jax.jit(function).lower(*arguments)
    traced = time.perf_counter()
    program = lowered.compile(backend.compiler_options())
    compiled = time.perf_counter()
    jax.clear_caches()
    again = jax.jit(function).lower(*arguments)
    before = time.perf_counter()
    again.compile(backend.compiler_options())
    cached = time.perf_counter() - before
    times = timed(program, *arguments, calls=calls)
    memory = program.memory_analysis()
    temp = int(memory.temp_size_in_bytes) if memory is not None else 0
    return Measurement(name, traced - begin, compiled - traced, cached, min(times), max(times) / min(times), temp)


def timed(program: Callable[..., Any], *arguments: Any, calls: int) -> list[float]:
    """Seconds of each of some calls, after one that is not counted."""
    jax.block_until_ready(program(*arguments))
    times = []
    for _ in range(calls):
        start = time.perf_counter()
        jax.block_until_ready(program(*arguments))
        times.append(time.perf_counter() - start)
    return times


def matrix_product_rate() -> float:
    """FLOP/s of a float32 product of two 2048 × 2048 matrices: what the cores, or the accelerator, can do."""
    matrix = jax.random.normal(jax.random.key(0), (MATRIX, MATRIX))
    return 2 * MATRIX**3 / measure("matrix product", jnp.matmul, matrix, matrix).call


def supernet_flops(batch_size: int) -> int:
    """FLOPs of one training step of the whole mixture: two per multiply-add, three times the forward pass.

    Convolutions and linear layers are counted, as everywhere; the backward pass does each of them twice again.
    """
    with backend.use("library"):
        network = cell_supernet(channels=CHANNELS, layers=LAYERS, classes=CLASSES, evaluation="plain")
        params = jax.eval_shape(network.init, jax.random.key(0))
        gates = {part: jax.ShapeDtypeStruct(shape, jnp.float32) for part, shape in cell_space().shapes.items()}
        images = jax.ShapeDtypeStruct((1, SIZE, SIZE, 3), jnp.float32)
        return 6 * batch_size * mult_adds(network.apply, params, gates, images)


def _batch(key: Key, size: int) -> Batch:
    return Batch(jax.random.normal(key, (size, SIZE, SIZE, 3)), jnp.arange(size) % CLASSES)


def search_steps(paths: int | None, batch_size: int) -> dict[str, tuple[Callable[..., Any], tuple[Any, ...]]]:
    """The two updates of a search, {"weight step", "architecture step"}: function and arguments of each.

    paths: None is first-order DARTS, 1 is GDAS.
    """
    network = cell_supernet(channels=CHANNELS, layers=LAYERS, classes=CLASSES, paths=paths)
    loss = classification(network)
    weights = sgd(0.025, momentum=0.9, weight_decay=3e-4, clip=5.0)
    sampler = categorical.softmax()
    if paths:
        weights = skip_inactive(weights)
        sampler = categorical.gumbel_straight_through(lambda count: 1.0)
    logits = adam(3e-4, b1=0.5, b2=0.999, weight_decay=1e-3)
    params = jax.jit(network.init)(jax.random.key(0))
    values = {part: jnp.zeros(shape) for part, shape in cell_space().shapes.items()}
    allowed = {part: jnp.ones(shape, bool) for part, shape in cell_space().shapes.items()}
    state = SearchState(
        jnp.zeros((), jnp.int32), params, weights.init(params), values, logits.init(values), allowed, ()
    )
    batches = Batches(_batch(jax.random.key(1), batch_size), _batch(jax.random.key(2), batch_size))
    arguments = (jax.random.key(3), state, batches)
    return {
        "weight step": (learn_weights(sampler, loss, weights, network.active), arguments),
        "architecture step": (learn_logits(pathwise(sampler), first_order(loss), logits), arguments),
    }


def cell_gradient(evaluation: str, implementation: str, batch_size: int) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """The gradient of everything of one normal cell (32 channels, 16×16), with one implementation's primitives."""
    cell = Cell(OPERATIONS, cell_edges(4), reduction=False)
    (group,) = groups(cell)
    edges = {group.name: init_weights(jax.random.key(0), weight_shapes(cell, group, 32), (len(group.rows),))}
    inputs = jax.random.normal(jax.random.key(1), (2, batch_size, 16, 16, 32))
    gates = jax.nn.softmax(jnp.zeros((len(cell.edges), len(OPERATIONS))))

    def gradient(inputs, edges, gates):
        with backend.use(implementation):
            return jax.grad(lambda *all_of: jnp.sum(jnp.sin(EVALUATIONS[evaluation](cell, *all_of))), (0, 1, 2))(
                inputs, edges, gates
            )

    return gradient, (inputs, edges, gates)


def call_overhead() -> float:
    """Seconds that one call into the compiled search loop costs beyond its steps: dispatch, donation, the answer.

    The state is that of the full supernet; the step is one small matrix product, so that the calls, not the steps,
    are what is timed: the time of a call of one step less the time that a step takes within a long call.
    """
    (_, (_, state, _)), *_ = search_steps(None, 1).values()

    def step(key, learner, data, order, position):
        product = data @ data
        return learner._replace(step=learner.step + 1), {"loss": product[0, 0]}

    task = Task(
        name="overhead",
        epochs=1,
        steps_per_epoch=1000,
        devices=Devices(),
        branches=False,
        init=lambda key, before: state,
        begin_epoch=lambda key, epoch: epoch,
        step=step,
        finish_epoch=lambda key, learner, data, epoch: (learner, {}),
    )
    matrix = jnp.full((128, 128), 1 / 128)
    run = jax.vmap(lambda key: init_run(task, key, rehearse(task, matrix)))(jax.random.split(jax.random.key(0), 1))
    program = compile_task(task, run, matrix).advance

    def seconds(run: RunState, count: int) -> tuple[RunState, float]:
        start = time.perf_counter()
        run = jax.block_until_ready(program(run, matrix, jnp.asarray(count, jnp.int32)))
        return run, time.perf_counter() - start

    times: dict[int, list[float]] = {1: [], 101: []}
    for _ in range(20):
        for count, values in times.items():
            run, spent = seconds(run, count)
            values.append(spent)
    one, many = (statistics.median(values) for values in times.values())
    return one - (many - one) / 100


def supernet_suite(batch_sizes: Sequence[int]) -> dict[str, Any]:
    """Measures the DARTS supernet: one cell by every evaluation, then the search steps of the whole network."""
    rate = matrix_product_rate()
    fast = default_evaluation()
    here = backend.implementation()
    cells = [
        measure(
            f"{evaluation} cell, {implementation} convolutions", *_flat(cell_gradient(evaluation, implementation, 16))
        )
        for evaluation, implementation in dict.fromkeys([("plain", "library"), ("wide", here), (fast, here)])
    ]
    rows = []
    for size in batch_sizes:
        flops = supernet_flops(size)
        for paths, label in ((None, fast), (1, "single path")):
            for name, (function, arguments) in search_steps(paths, size).items():
                one = measure(f"{name}, {label}, batch {size}", function, *arguments)
                share = flops / one.call / rate if name == "weight step" and paths is None else None
                rows.append({**one._asdict(), "per_image": one.call / size, "share_of_matrix_product": share})
    return {
        "matrix_product_gflops": rate / 1e9,
        "cells": [one._asdict() for one in cells],
        "steps": rows,
        "call_overhead_share": call_overhead() / SECONDS_PER_CALL,
        "cell_speedup": cells[0].call / cells[-1].call,
        "single_path_over_mixture": [rows[i + 2]["call"] / rows[i]["call"] for i in range(0, len(rows), 4)],
    }


def _flat(pair: tuple[Callable[..., Any], tuple[Any, ...]]) -> tuple[Any, ...]:
    return pair[0], *pair[1]
