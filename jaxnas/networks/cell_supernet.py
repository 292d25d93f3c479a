"""The DARTS supernet: a stack of mixed cells, normal and reduction, over a shared set of gates.

Source: Liu, Simonyan & Yang 2019, section 2 and appendix A.1. Batch statistics are used at all times (no running
averages, no hidden state), so the network is a pure function and second-order gradients are plain automatic
differentiation. Frozen statistics belong to the stand-alone network that is trained afterwards.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxnas.core.errors import UserError, choose
from jaxnas.core.keys import named
from jaxnas.core.types import Array, Dropout, Gates, Key, Network, Params, PyTree
from jaxnas.layers.convolution import convolution, pointwise
from jaxnas.layers.normalization import Statistics, batch_norm, leading
from jaxnas.layers.operations import factorized_reduction, init_weights
from jaxnas.networks.mixed_cell import EVALUATIONS, Cell, Evaluation, default_evaluation, groups, weight_shapes
from jaxnas.spaces.cell import OPERATIONS, cell_edges, reduction_layers

STEM_MULTIPLIER = 3


class Layer(NamedTuple):
    """One cell of the stack: its kind, its channels, and how its two inputs have to be brought to that shape."""

    part: str  # "normal" or "reduce": which gates it uses
    channels: int
    inputs: tuple[int, int]  # channels of the outputs of the cell before the last and of the last
    halve_first: bool  # the cell before was a reduction: input 0 is twice as large and needs a factorized reduction


def layer_plan(channels: int, layers: int, nodes: int) -> tuple[Layer, ...]:
    """The stack of `layers` cells starting at `channels`; channels double at every reduction (L//3 and 2L//3)."""
    reductions = reduction_layers(layers)
    plan: list[Layer] = []
    before_last = last = STEM_MULTIPLIER * channels
    for number in range(layers):
        channels *= 2 if number in reductions else 1
        part = "reduce" if number in reductions else "normal"
        plan.append(Layer(part, channels, (before_last, last), number - 1 in reductions))
        before_last, last = last, nodes * channels
    return tuple(plan)


def _stages(plan: Sequence[Layer]) -> list[list[int]]:
    """Runs of normal cells of one width, which share a compiled loop body; every reduction cell is alone."""
    stages: list[list[int]] = []
    for number, layer in enumerate(plan):
        joins = number > 0 and layer.part == plan[number - 1].part == "normal"
        if joins:
            stages[-1].append(number)
        else:
            stages.append([number])
    return stages


def _preprocess_shapes(channels_in: int, channels: int, halve: bool) -> Mapping[str, tuple[int, ...]]:
    if halve:
        return {"even": (channels_in, channels // 2), "odd": (channels_in, channels // 2)}
    return {"kernel": (channels_in, channels)}


def _preprocess(weights: Mapping[str, Array], images: Array, statistics: Statistics) -> Array:
    """ReLU, 1×1 convolution (or factorized reduction), normalise: brings a cell's input to the cell's shape."""
    rectified = jax.nn.relu(images)
    if "even" in weights:
        return batch_norm(factorized_reduction(rectified, weights["even"], weights["odd"]), statistics)
    return batch_norm(pointwise(rectified, weights["kernel"]), statistics)


def _stacked(trees: Sequence[PyTree]) -> PyTree:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def _run_stage(
    cell: Cell,
    evaluate: Evaluation,
    params: Sequence[Mapping[str, PyTree]],
    gates: Array,
    before: Array,
    last: Array,
    noise: Sequence[Dropout | None],
) -> tuple[Array, Array]:
    """Runs consecutive cells of one shape and returns the outputs of the last two (or `last` and the only one).

    With more than one cell, their bodies are one loop body, compiled once. Input 0 of a cell is known one cell ahead
    of its input 1, hence the carry: this cell's two inputs and the next cell's input 0, preprocessed.
    """
    count = len(params)
    first = _preprocess(params[0]["preprocess_0"], before, cell.statistics)
    second = _preprocess(params[0]["preprocess_1"], last, cell.statistics)
    if count == 1:
        return last, evaluate(cell, jnp.stack([first, second]), params[0]["edges"], gates, noise[0])
    upcoming = _preprocess(params[1]["preprocess_0"], last, cell.statistics)
    # The last cells have no successor inside the stage; they prepare inputs with borrowed weights that nobody reads.
    successors = [params[min(i + 1, count - 1)]["preprocess_1"] for i in range(count)]
    after_next = [params[min(i + 2, count - 1)]["preprocess_0"] for i in range(count)] if count > 2 else successors

    def body(carry, scanned):
        first, second, upcoming = carry
        edges, next_1, next_0, noise = scanned
        output = evaluate(cell, jnp.stack([first, second]), edges, gates, noise)
        following = _preprocess(next_0, output, cell.statistics) if count > 2 else upcoming
        return (upcoming, _preprocess(next_1, output, cell.statistics), following), output

    scanned = _stacked([p["edges"] for p in params]), _stacked(successors), _stacked(after_next), _stacked(noise)
    _, outputs = lax.scan(body, (first, second, upcoming), scanned)
    return outputs[-2], outputs[-1]


def cell_supernet(
    *,
    channels: int,
    layers: int,
    classes: int,
    nodes: int = 4,
    operations: tuple[str, ...] = OPERATIONS,
    reduce_operations: tuple[str, ...] | None = None,
    image_channels: int = 3,
    evaluation: str = "auto",
    axis_name: str | None = None,
    paths: int | None = None,
    bare_gates: bool = False,
    partial: int = 1,
    recompute: bool = True,
    calibrate: int = 0,
) -> Network:
    """The supernet as a Network over gates {"normal": [edges, operations], "reduce": [edges, operations]}.

    reduce_operations: of the reduction cells, where they differ.
    evaluation: how a cell is computed, one of mixed_cell.EVALUATIONS or "auto" (the fast one for this backend). All
        have the same weights and give the same values.
    axis_name: the device axis over which batch statistics are shared. paths, bare_gates, partial: see `Cell`.
    recompute: whether a cell's candidates run again going back, in place of keeping what they computed; "tape" always
        does, because that is faster where it is used.
    calibrate: how many examples of a batch, its first, normalise it; 0 for all of them.
    Raises UserError for an unknown evaluation, for a width that `partial` does not divide and, when applied, for images
    whose size two reductions cannot halve.
    """
    evaluation = default_evaluation(paths) if evaluation == "auto" else evaluation
    evaluate = choose("evaluation", evaluation, EVALUATIONS)
    if recompute and evaluation == "wide":
        evaluate = jax.checkpoint(evaluate, static_argnums=0)
    if channels % partial:
        raise UserError(
            f"space.channels {channels} does not divide into {partial} parts; "
            f"the nearest that does is {max(1, round(channels / partial)) * partial}."
        )
    statistics = leading(axis_name, calibrate)
    edges = cell_edges(nodes)
    sets = {"normal": operations, "reduce": operations if reduce_operations is None else reduce_operations}
    cells = {
        part: Cell(own, edges, part == "reduce", statistics, paths and min(paths, len(own)), bare_gates, partial)
        for part, own in sets.items()
    }
    plan = layer_plan(channels, layers, nodes)
    stages = _stages(plan)

    def init(key: Key) -> Params:
        stem = {"kernel": (3, 3, image_channels, STEM_MULTIPLIER * channels)}
        features = nodes * plan[-1].channels
        classifier = init_weights(
            named(key, "classifier"), {"kernel": (features, classes), "bias": (features, classes)}
        )
        return {
            "stem": init_weights(named(key, "stem"), stem)
            | {"scale": jnp.ones(STEM_MULTIPLIER * channels), "bias": jnp.zeros(STEM_MULTIPLIER * channels)},
            "cells": [_init_cell(named(key, f"cell_{i}"), cells[layer.part], layer) for i, layer in enumerate(plan)],
            "classifier": {"kernel": classifier["kernel"], "bias": classifier["bias"][0]},
        }

    def apply(params: Params, gates: Gates, images: Array, noise: Dropout | None = None) -> Array:
        _check_size(images, len([layer for layer in plan if layer.part == "reduce"]))
        stem = params["stem"]
        before = last = batch_norm(convolution(images, stem["kernel"]), statistics) * stem["scale"] + stem["bias"]
        for stage in stages:
            part = plan[stage[0]].part
            members = [params["cells"][number] for number in stage]
            noises = [noise and noise._replace(key=jax.random.fold_in(noise.key, number)) for number in stage]
            before, last = _run_stage(cells[part], evaluate, members, gates[part], before, last, noises)
        return jnp.mean(last, axis=(1, 2)) @ params["classifier"]["kernel"] + params["classifier"]["bias"]

    def active(gates: Gates) -> PyTree:
        everywhere = {"stem": dict.fromkeys(("kernel", "scale", "bias"), True)}
        everywhere |= {"classifier": dict.fromkeys(("kernel", "bias"), True)}
        return everywhere | {"cells": [_active_cell(cells[layer.part], layer, gates[layer.part]) for layer in plan]}

    return Network(init, apply, active)


def _init_cell(key: Key, cell: Cell, layer: Layer) -> Params:
    halves = (layer.halve_first, False)
    params: dict[str, PyTree] = {
        f"preprocess_{i}": init_weights(
            named(key, f"preprocess_{i}"), _preprocess_shapes(layer.inputs[i], layer.channels, halves[i])
        )
        for i in (0, 1)
    }
    params["edges"] = {
        group.name: init_weights(named(key, group.name), weight_shapes(cell, group, layer.channels), (len(group.rows),))
        for group in groups(cell)
    }
    return params


def _active_cell(cell: Cell, layer: Layer, gates: Array) -> PyTree:
    """Which weights of a cell have a non-zero gate, each leaf [edges, 1, ...] beside a leaf of weights [edges, ...]."""
    active: dict[str, PyTree] = {f"preprocess_{i}": {"kernel": True} for i in (0, 1)}
    if layer.halve_first:
        active["preprocess_0"] = {"even": True, "odd": True}
    active["edges"] = {}
    for group in groups(cell):
        used = gates[jnp.asarray(group.rows)] > 0
        active["edges"][group.name] = {
            operation: {
                name: used[:, cell.operations.index(operation)].reshape(-1, *[1] * len(shape))
                for name, shape in shapes.items()
            }
            for operation, shapes in weight_shapes(cell, group, layer.channels).items()
        }
    return active


def _check_size(images: Array, reductions: int) -> None:
    factor = 2**reductions
    if any(size % factor for size in images.shape[1:3]):
        height, width = images.shape[1:3]
        often = "once" if reductions == 1 else f"{reductions} times"
        raise UserError(
            f"images of {height}×{width} pixels cannot be halved {often}; pad or resize them to a multiple of {factor}."
        )
