"""The cell of a supernet: every edge is a mixture of candidate operations, weighted by gates.

One function, three evaluations of it with the same weights (see docs/design.md for when each is fast):

- `plain`: edge after edge, as the papers write it; the reference that the others are tested against;
- `wide`: all edges out of one source at once, so that few large kernels run (accelerators);
- `tape`: a loop over edges with a derivative of its own that keeps only the node states and recomputes each edge
  (CPU: a tenth of the program to compile, a fifth of the memory, and faster).

With `Cell.paths` only the operations of the largest gates run on an edge, under `plain` and `tape`.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxnas.core.types import Array, Dropout, PyTree
from jaxnas.layers import backend
from jaxnas.layers.convolution import channel_shuffle
from jaxnas.layers.normalization import Statistics, batch_norm, normalized_sum
from jaxnas.layers.operations import OPERATIONS, Shapes, Source, Weights
from jaxnas.networks.choice import materialized, run_paths

EdgeWeights = Mapping[str, Mapping[str, Array]]  # {operation: {weight: [...]}}, or [edges, ...] in a whole group
CellWeights = Mapping[str, EdgeWeights]  # {"stride_1": ..., "stride_2": ...}


class Cell(NamedTuple):
    """What is fixed about a cell.

    operations: names in layers.operations.OPERATIONS.
    edges: (source, node) pairs, node by node; the first `inputs` sources are the cell's inputs.
    statistics: by which examples normalise a batch, see `layers.normalization`.
    paths: how many operations run on every edge, those of the largest gates; None for all.
    bare_gates: with `paths`, whether gates of operations that do not run get the gradient of being added bare to the
        node, as in the published GDAS code, or none.
    partial: K; the operations see 1/K of the channels, and the others pass by (PC-DARTS).
    inputs: how many states a cell starts from. concatenated: whether its output is all nodes, or the last one.
    """

    operations: tuple[str, ...]
    edges: tuple[tuple[int, int], ...]
    reduction: bool
    statistics: Statistics = None
    paths: int | None = None
    bare_gates: bool = False
    partial: int = 1
    inputs: int = 2
    concatenated: bool = True

    @property
    def nodes(self) -> int:
        """Number of intermediate nodes, whose states are concatenated into the output."""
        return 1 + max(node for _, node in self.edges)


class Group(NamedTuple):
    """The edges of one stride: their rows in the gates."""

    stride: int
    rows: tuple[int, ...]

    @property
    def name(self) -> str:
        """The key of the group's weights."""
        return f"stride_{self.stride}"


def groups(cell: Cell) -> tuple[Group, ...]:
    """Edges by stride, in an order in which they can be evaluated: a reduction cell's inputs come first."""
    from_inputs = tuple(row for row, (source, _) in enumerate(cell.edges) if source < cell.inputs)
    inside = tuple(row for row in range(len(cell.edges)) if row not in from_inputs)
    if not cell.reduction:
        return (Group(1, tuple(range(len(cell.edges)))),)
    return (Group(2, from_inputs), Group(1, inside)) if inside else (Group(2, from_inputs),)


def weight_shapes(cell: Cell, group: Group, channels: int) -> Mapping[str, Shapes]:
    """The shapes of one edge's weights in a group, {operation: {weight: shape}}, without operations that have none."""
    shapes = {name: OPERATIONS[name].shapes(channels // cell.partial, group.stride) for name in cell.operations}
    return {name: shape for name, shape in shapes.items() if shape}


def mixture(
    cell: Cell, stride: int, image: Array, weights: EdgeWeights, gates: Array, noise: Dropout | None = None
) -> Array:
    """One mixed edge: Σ over operations of gate · operation(image); image [b, h, w, c], gates [operations]."""
    source = Source(image, jax.nn.relu(image))
    outputs = {
        column: _applied(cell, stride, name, weights.get(name, {}), source, noise)
        for column, name in enumerate(cell.operations)
        if name != "none"
    }
    normalized = [column for column in outputs if OPERATIONS[cell.operations[column]].normalized(stride)]
    parts = [gates[column] * output for column, output in outputs.items() if column not in normalized]
    if normalized:
        images = [outputs[column] for column in normalized]
        parts.append(normalized_sum(images, gates[np.asarray(normalized)], cell.statistics))
    return functools.reduce(jnp.add, parts)


def selected(
    cell: Cell, stride: int, image: Array, weights: EdgeWeights, gates: Array, noise: Dropout | None = None
) -> Array:
    """The edge running only the `cell.paths` operations of largest gate: `mixture` where the other gates are zero."""
    branches = tuple(functools.partial(_candidate, cell, stride, name) for name in cell.operations)
    return run_paths(branches, cell.paths or 1, cell.bare_gates, image, weights, gates, noise)


def _candidate(cell: Cell, stride: int, name: str, image: Array, weights: EdgeWeights, noise: Dropout | None) -> Array:
    return _evaluated(cell, stride, name, weights.get(name, {}), Source(image, jax.nn.relu(image)), noise)


def _evaluated(cell: Cell, stride: int, name: str, weights: Weights, source: Source, noise: Dropout | None) -> Array:
    """One operation, normalised where it is to be."""
    output = _applied(cell, stride, name, weights, source, noise)
    return batch_norm(output, cell.statistics) if OPERATIONS[name].normalized(stride) else output


def _applied(cell: Cell, stride: int, name: str, weights: Weights, source: Source, noise: Dropout | None) -> Array:
    """One operation before its last normalisation; an identity with dropout where there is noise (P-DARTS)."""
    output = OPERATIONS[name].apply(weights, source, stride, cell.statistics)
    if noise is None or name != "skip_connect" or stride != 1:
        return output
    keep = jax.random.bernoulli(noise.key, 1.0 - noise.rate, output.shape)
    return jnp.where(keep, output / (1.0 - noise.rate), 0.0)


def _edge(
    cell: Cell, stride: int, image: Array, weights: EdgeWeights, gates: Array, noise: Dropout | None = None
) -> Array:
    """One edge: its operations on all channels or, with partial channels, on the first share of them.

    The other channels pass by (halved by 2×2 maxima at stride 2), weighted by the sum of the gates, which is the
    weight of the whole edge, and all channels are shuffled (PC-DARTS, Xu et al. 2020, section 3.2).
    """
    run = mixture if cell.paths is None else selected
    if cell.partial == 1:
        return run(cell, stride, image, weights, gates, noise)
    share = image.shape[-1] // cell.partial
    mixed = run(cell, stride, image[..., :share], weights, gates, noise)
    passed = jnp.sum(gates) * _passed_by(image[..., share:], stride)
    return channel_shuffle(jnp.concatenate([mixed, passed], axis=-1), cell.partial)


def _passed_by(image: Array, stride: int) -> Array:
    if stride == 1:
        return image
    *leading, height, width, channels = image.shape
    return jnp.max(image.reshape(*leading, height // 2, 2, width // 2, 2, channels), axis=(-4, -2))


# The evaluations. inputs [cell inputs, b, h, w, c], gates [edges, operations] -> [b, h', w', nodes · c or c].


def _at_edge(noise: Dropout | None, row: Array | int) -> Dropout | None:
    """An edge's own noise."""
    return None if noise is None else noise._replace(key=jax.random.fold_in(noise.key, row))


def _output(cell: Cell, nodes: Sequence[Array]) -> Array:
    return jnp.concatenate(nodes, axis=-1) if cell.concatenated else nodes[-1]


def _row_weights(cell: Cell, weights: CellWeights, row: int) -> tuple[int, EdgeWeights]:
    """The stride and the weights of one edge."""
    group = next(group for group in groups(cell) if row in group.rows)
    position = group.rows.index(row)
    return group.stride, jax.tree.map(lambda leaf: leaf[position], weights[group.name])


def plain(cell: Cell, inputs: Array, weights: CellWeights, gates: Array, noise: Dropout | None = None) -> Array:
    """Edge after edge, every operation of every edge."""
    states = list(inputs)
    for node in range(cell.nodes):
        incoming = []
        for row, (source, target) in enumerate(cell.edges):
            if target == node:
                stride, edge = _row_weights(cell, weights, row)
                incoming.append(_edge(cell, stride, states[source], edge, gates[row], _at_edge(noise, row)))
        states.append(functools.reduce(jnp.add, incoming))
    return _output(cell, states[cell.inputs :])


def wide(cell: Cell, inputs: Array, weights: CellWeights, gates: Array, noise: Dropout | None = None) -> Array:
    """All edges out of one source at once; operations without weights run once a source instead of once an edge."""
    states: list[Array] = list(inputs)
    sums: dict[int, Array] = {}
    for number in range(cell.nodes + cell.inputs - 1):
        for group in groups(cell):
            rows = [row for row in group.rows if cell.edges[row][0] == number]
            if rows:
                positions = np.asarray([group.rows.index(row) for row in rows])
                edges = jax.tree.map(lambda leaf, positions=positions: leaf[positions], weights[group.name])
                noises = [_at_edge(noise, row) for row in rows]
                outputs = _fan_out(cell, group.stride, states[number], edges, gates[np.asarray(rows)], noises)
                for output, row in zip(outputs, rows, strict=True):
                    node = cell.edges[row][1]
                    sums[node] = sums[node] + output if node in sums else output
        if number >= cell.inputs - 1:  # the next node has now received all its edges
            states.append(sums[number - cell.inputs + 1])
    return _output(cell, states[cell.inputs :])


def _fan_out(
    cell: Cell, stride: int, image: Array, weights: EdgeWeights, gates: Array, noises: Sequence[Dropout | None]
) -> Array:
    """All targets' mixtures of one image: weights [targets, ...], gates [targets, ops] -> [targets, b, h, w, c]."""
    share = image.shape[-1] // cell.partial
    source = Source(image[..., :share], jax.nn.relu(image[..., :share]))
    parts = []
    for column, name in enumerate(cell.operations):
        if name == "none":
            continue
        evaluate = functools.partial(_evaluated, cell, stride, name, source=source)
        if name in weights:
            outputs = jax.vmap(lambda own, evaluate=evaluate: evaluate(own, noise=None))(weights[name])
        elif noises[0] is None or name != "skip_connect":
            outputs = evaluate({}, noise=None)[None]
        else:
            outputs = jnp.stack([evaluate({}, noise=noise) for noise in noises])
        parts.append(gates[:, column, None, None, None, None] * outputs)
    mixed = functools.reduce(jnp.add, parts)
    if cell.partial == 1:
        return mixed
    passed = jnp.sum(gates, axis=1)[:, None, None, None, None] * _passed_by(image[..., share:], stride)
    return channel_shuffle(jnp.concatenate([mixed, passed], axis=-1), cell.partial)


def tape(cell: Cell, inputs: Array, weights: CellWeights, gates: Array, noise: Dropout | None = None) -> Array:
    """A loop over the edges, with a derivative that keeps the node states alone and recomputes each edge."""
    return _tape(cell, inputs, weights, gates, noise)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _tape(cell: Cell, inputs: Array, weights: CellWeights, gates: Array, noise: Dropout | None) -> Array:
    return _tape_forward(cell, inputs, weights, gates, noise)[0]


def _add_at(stack: Array, index: Array, value: Array) -> Array:
    return lax.dynamic_update_index_in_dim(stack, lax.dynamic_index_in_dim(stack, index, 0, False) + value, index, 0)


def _scanned(cell: Cell, group: Group, weights: CellWeights, gates: Array) -> PyTree:
    """What the loop over a group's edges reads: weights, gates, row, source and target state of every edge."""
    rows = np.asarray(group.rows)
    ends = np.asarray([(source, node + cell.inputs) for source, node in cell.edges])[rows]
    return weights[group.name], gates[rows], jnp.asarray(rows), jnp.asarray(ends[:, 0]), jnp.asarray(ends[:, 1])


def _tape_forward(cell, inputs, weights, gates, noise):
    shrink = 2 if cell.reduction else 1
    first, batch, height, width, channels = inputs.shape
    states = jnp.zeros((cell.nodes, batch, height // shrink, width // shrink, channels), inputs.dtype)
    # The first rows are the inputs; a reduction cell's inputs are larger and stay apart, so these rows are never read.
    states = jnp.concatenate(
        [jnp.zeros_like(states, shape=(first, *states.shape[1:])) if cell.reduction else inputs, states]
    )
    for group in groups(cell):

        def body(states, scanned, group=group):
            edge_weights, edge_gates, row, source, target = scanned
            image = lax.dynamic_index_in_dim(inputs if group.stride == 2 else states, source, 0, False)
            output = _edge(cell, group.stride, image, materialized(edge_weights), edge_gates, _at_edge(noise, row))
            return _add_at(states, target, lax.optimization_barrier(output)), None

        states, _ = lax.scan(body, states, _scanned(cell, group, weights, gates))
    nodes = jnp.moveaxis(states[first:], 0, 3).reshape(*states.shape[1:4], cell.nodes * channels)
    output = nodes if cell.concatenated else states[-1]
    return output, (inputs if cell.reduction else None, states, weights, gates, noise)


def _tape_backward(cell, residuals, cotangent):
    """Runs the edges in reverse. When an edge is reached, the cotangent of its node is complete."""
    inputs, states, weights, gates, noise = residuals
    states_bar = jnp.zeros_like(states)
    if cell.concatenated:
        split = jnp.moveaxis(cotangent.reshape(*states.shape[1:4], cell.nodes, -1), 3, 0)
        states_bar = jnp.concatenate([states_bar[: cell.inputs], split])
    else:
        states_bar = states_bar.at[-1].set(cotangent)
    inputs_bar = None if inputs is None else jnp.zeros_like(inputs)
    weights_bar: dict[str, PyTree] = {}
    gates_bar = jnp.zeros_like(gates)
    for group in reversed(groups(cell)):
        read = states if group.stride == 1 else inputs

        def body(carry, scanned, group=group, read=read):
            states_bar, inputs_bar = carry
            edge_weights, edge_gates, row, source, target = scanned
            image, output_bar = lax.optimization_barrier(
                (
                    lax.dynamic_index_in_dim(read, source, 0, False),
                    lax.dynamic_index_in_dim(states_bar, target, 0, False),
                )
            )
            evaluate = functools.partial(_edge, cell, group.stride, noise=_at_edge(noise, row))
            _, pullback = jax.vjp(evaluate, image, materialized(edge_weights), edge_gates)
            image_bar, edge_bar, row_bar = pullback(output_bar)
            image_bar = lax.optimization_barrier(image_bar)
            if group.stride == 1:
                states_bar = _add_at(states_bar, source, image_bar)
            else:
                inputs_bar = _add_at(inputs_bar, source, image_bar)
            return (states_bar, inputs_bar), (edge_bar, row_bar)

        (states_bar, inputs_bar), (weights_bar[group.name], rows_bar) = lax.scan(
            body, (states_bar, inputs_bar), _scanned(cell, group, weights, gates), reverse=True
        )
        gates_bar = gates_bar.at[np.asarray(group.rows)].set(rows_bar)
    return states_bar[: cell.inputs] if inputs_bar is None else inputs_bar, weights_bar, gates_bar, None


_tape.defvjp(_tape_forward, _tape_backward)


Evaluation = Callable[..., Array]  # (cell, inputs, weights, gates, noise)

EVALUATIONS: Mapping[str, Evaluation] = {"plain": plain, "wide": wide, "tape": tape}


def default_evaluation(paths: int | None = None) -> str:
    """The fast evaluation on the present backend: of whole mixtures `wide` on accelerators, otherwise `tape`."""
    return "tape" if paths is not None or backend.implementation() == "cpu" else "wide"
