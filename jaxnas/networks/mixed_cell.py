"""The cell of a supernet: every edge is a mixture of candidate operations, weighted by gates.

One function, four evaluations of it with the same weights (see docs/design.md for when each is fast):

- `plain`: edge after edge, as the papers write it; the reference that the others are tested against;
- `wide`: all edges out of one source at once, so that few large kernels run (accelerators);
- `tape`: a loop over edges with a derivative of its own that keeps only the node states and recomputes each edge
  (CPU: a tenth of the program to compile, a fifth of the memory, and faster);
- `single_path`: the tape running, on every edge, only the operation with the largest gate (one-hot gates).
"""

import functools
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxnas.core.types import Array, PyTree
from jaxnas.layers import backend
from jaxnas.layers.normalization import batch_norm, normalized_sum
from jaxnas.layers.operations import OPERATIONS, Shapes, Source, Weights

EdgeWeights = Mapping[str, Mapping[str, Array]]  # {operation: {weight: [...]}}, or [edges, ...] in a whole group
CellWeights = Mapping[str, EdgeWeights]  # {"stride_1": ..., "stride_2": ...}


class Cell(NamedTuple):
    """What is fixed about a cell.

    edges: (source, node) pairs, node by node; sources 0 and 1 are the cell's inputs.

    axis_name: the mapped device axis over which batch statistics are shared, None to keep them per device.
    bare_gates: on a single path, whether a gate that is not selected gets the gradient of being added bare to the
        node, as in the published GDAS code, or none.
    """

    operations: tuple[str, ...]
    edges: tuple[tuple[int, int], ...]
    reduction: bool
    axis_name: str | None = None
    bare_gates: bool = False

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
    from_inputs = tuple(row for row, (source, _) in enumerate(cell.edges) if source < 2)
    inside = tuple(row for row in range(len(cell.edges)) if row not in from_inputs)
    if not cell.reduction:
        return (Group(1, tuple(range(len(cell.edges)))),)
    return (Group(2, from_inputs), Group(1, inside)) if inside else (Group(2, from_inputs),)


def weight_shapes(cell: Cell, group: Group, channels: int) -> Mapping[str, Shapes]:
    """The shapes of one edge's weights in a group, {operation: {weight: shape}}, without operations that have none."""
    shapes = {name: OPERATIONS[name].shapes(channels, group.stride) for name in cell.operations}
    return {name: shape for name, shape in shapes.items() if shape}


def mixture(cell: Cell, stride: int, image: Array, weights: EdgeWeights, gates: Array) -> Array:
    """One mixed edge: Σ over operations of gate · operation(image); image [b, h, w, c], gates [operations]."""
    source = Source(image, jax.nn.relu(image))
    outputs = {
        column: OPERATIONS[name].apply(weights.get(name, {}), source, stride, cell.axis_name)
        for column, name in enumerate(cell.operations)
        if name != "none"
    }
    normalized = [column for column in outputs if OPERATIONS[cell.operations[column]].normalized(stride)]
    parts = [gates[column] * output for column, output in outputs.items() if column not in normalized]
    if normalized:
        images = [outputs[column] for column in normalized]
        parts.append(normalized_sum(images, gates[np.asarray(normalized)], cell.axis_name))
    return functools.reduce(jnp.add, parts)


# One path: only the operation with the largest gate runs, forward and backward.


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def selected(cell: Cell, stride: int, image: Array, weights: EdgeWeights, gates: Array) -> Array:
    """The edge running only the operation of the largest gate: gate · operation(image); `mixture` of one-hot gates."""
    branches = [functools.partial(_candidate, cell, stride, name) for name in cell.operations]
    index = jnp.argmax(gates)
    return gates[index] * lax.switch(index, branches, image, weights)


def _candidate(cell: Cell, stride: int, name: str, image: Array, weights: EdgeWeights) -> Array:
    return _evaluated(cell, stride, name, weights.get(name, {}), Source(image, jax.nn.relu(image)))


def _evaluated(cell: Cell, stride: int, name: str, weights: Weights, source: Source) -> Array:
    """One operation, normalised where it is to be."""
    output = OPERATIONS[name].apply(weights, source, stride, cell.axis_name)
    return batch_norm(output, cell.axis_name) if OPERATIONS[name].normalized(stride) else output


def _selected_forward(cell, stride, image, weights, gates):
    return selected(cell, stride, image, weights, gates), (image, weights, gates)


def _selected_backward(cell, stride, residuals, cotangent):
    """A switch over per-operation derivatives: the derivative of a switch would carry every branch's residuals."""
    image, weights, gates = residuals
    index = jnp.argmax(gates)

    def branch(name, image, weights, cotangent):
        output, pullback = jax.vjp(functools.partial(_candidate, cell, stride, name), image, weights)
        return *pullback(gates[index] * cotangent), jnp.vdot(output, cotangent)

    branches = [functools.partial(branch, name) for name in cell.operations]
    image_bar, weights_bar, gate_bar = lax.switch(index, branches, image, weights, cotangent)
    others = jnp.sum(cotangent) if cell.bare_gates else 0.0
    gates_bar = jnp.where(jnp.arange(len(gates)) == index, gate_bar, others)
    return image_bar, weights_bar, gates_bar


selected.defvjp(_selected_forward, _selected_backward)


# The evaluations. inputs [2, b, h, w, c], gates [edges, operations] -> [b, h', w', nodes · c].


def _row_weights(cell: Cell, weights: CellWeights, row: int) -> tuple[int, EdgeWeights]:
    """The stride and the weights of one edge."""
    group = next(group for group in groups(cell) if row in group.rows)
    position = group.rows.index(row)
    return group.stride, jax.tree.map(lambda leaf: leaf[position], weights[group.name])


def plain(cell: Cell, inputs: Array, weights: CellWeights, gates: Array) -> Array:
    """Edge after edge, every operation of every edge."""
    states = [inputs[0], inputs[1]]
    for node in range(cell.nodes):
        incoming = []
        for row, (source, target) in enumerate(cell.edges):
            if target == node:
                stride, edge = _row_weights(cell, weights, row)
                incoming.append(mixture(cell, stride, states[source], edge, gates[row]))
        states.append(functools.reduce(jnp.add, incoming))
    return jnp.concatenate(states[2:], axis=-1)


def wide(cell: Cell, inputs: Array, weights: CellWeights, gates: Array) -> Array:
    """All edges out of one source at once; operations without weights run once a source instead of once an edge."""
    states: list[Array] = [inputs[0], inputs[1]]
    sums: dict[int, Array] = {}
    for number in range(cell.nodes + 1):
        for group in groups(cell):
            rows = [row for row in group.rows if cell.edges[row][0] == number]
            if rows:
                positions = np.asarray([group.rows.index(row) for row in rows])
                edges = jax.tree.map(lambda leaf, positions=positions: leaf[positions], weights[group.name])
                outputs = _fan_out(cell, group.stride, states[number], edges, gates[np.asarray(rows)])
                for output, row in zip(outputs, rows, strict=True):
                    node = cell.edges[row][1]
                    sums[node] = sums[node] + output if node in sums else output
        if number >= 1:  # node number - 1 has now received all its edges
            states.append(sums[number - 1])
    return jnp.concatenate(states[2:], axis=-1)


def _fan_out(cell: Cell, stride: int, image: Array, weights: EdgeWeights, gates: Array) -> Array:
    """All targets' mixtures of one image: weights [targets, ...], gates [targets, ops] -> [targets, b, h, w, c]."""
    source = Source(image, jax.nn.relu(image))
    parts = []
    for column, name in enumerate(cell.operations):
        if name == "none":
            continue
        evaluate = functools.partial(_evaluated, cell, stride, name, source=source)
        outputs = jax.vmap(evaluate)(weights[name]) if name in weights else evaluate({})[None]
        parts.append(gates[:, column, None, None, None, None] * outputs)
    return functools.reduce(jnp.add, parts)


Edge = Callable[[Cell, int, Array, EdgeWeights, Array], Array]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _tape(edge: Edge, cell: Cell, inputs: Array, weights: CellWeights, gates: Array) -> Array:
    return _tape_forward(edge, cell, inputs, weights, gates)[0]


def _materialized(weights: EdgeWeights) -> EdgeWeights:
    """Copies a loop's slice of the weights by a product with the identity.

    XLA:CPU would fuse the slicing into every tap of every convolution, optimization barrier or not.
    """
    if backend.implementation() != "cpu":
        return weights
    return jax.tree.map(
        lambda leaf: (leaf.reshape(-1, leaf.shape[-1]) @ jnp.eye(leaf.shape[-1], dtype=leaf.dtype)).reshape(leaf.shape),
        weights,
    )


def _add_at(stack: Array, index: Array, value: Array) -> Array:
    return lax.dynamic_update_index_in_dim(stack, lax.dynamic_index_in_dim(stack, index, 0, False) + value, index, 0)


def _scanned(cell: Cell, group: Group, weights: CellWeights, gates: Array) -> PyTree:
    """What the loop over a group's edges reads: weights, gates, source and target state of every edge."""
    rows = np.asarray(group.rows)
    ends = np.asarray([(source, node + 2) for source, node in cell.edges])[rows]
    return weights[group.name], gates[rows], jnp.asarray(ends[:, 0]), jnp.asarray(ends[:, 1])


def _tape_forward(edge, cell, inputs, weights, gates):
    shrink = 2 if cell.reduction else 1
    _, batch, height, width, channels = inputs.shape
    states = jnp.zeros((cell.nodes, batch, height // shrink, width // shrink, channels), inputs.dtype)
    # Rows 0 and 1 are the inputs; a reduction cell's inputs are larger and stay apart, so these rows are never read.
    states = jnp.concatenate(
        [jnp.zeros_like(states, shape=(2, *states.shape[1:])) if cell.reduction else inputs, states]
    )
    for group in groups(cell):

        def body(states, scanned, group=group):
            edge_weights, row, source, target = scanned
            image = lax.dynamic_index_in_dim(inputs if group.stride == 2 else states, source, 0, False)
            output = edge(cell, group.stride, image, _materialized(edge_weights), row)
            return _add_at(states, target, lax.optimization_barrier(output)), None

        states, _ = lax.scan(body, states, _scanned(cell, group, weights, gates))
    output = jnp.moveaxis(states[2:], 0, 3).reshape(*states.shape[1:4], cell.nodes * channels)
    return output, (inputs if cell.reduction else None, states, weights, gates)


def _tape_backward(edge, cell, residuals, cotangent):
    """Runs the edges in reverse. When an edge is reached, the cotangent of its node is complete."""
    inputs, states, weights, gates = residuals
    split = jnp.moveaxis(cotangent.reshape(*states.shape[1:4], cell.nodes, -1), 3, 0)
    states_bar = jnp.concatenate([jnp.zeros_like(states[:2]), split])
    inputs_bar = None if inputs is None else jnp.zeros_like(inputs)
    weights_bar: dict[str, PyTree] = {}
    gates_bar = jnp.zeros_like(gates)
    for group in reversed(groups(cell)):
        read = states if group.stride == 1 else inputs

        def body(carry, scanned, group=group, read=read):
            states_bar, inputs_bar = carry
            edge_weights, row, source, target = scanned
            image, output_bar = lax.optimization_barrier(
                (
                    lax.dynamic_index_in_dim(read, source, 0, False),
                    lax.dynamic_index_in_dim(states_bar, target, 0, False),
                )
            )
            evaluate = functools.partial(edge, cell, group.stride)
            _, pullback = jax.vjp(evaluate, image, _materialized(edge_weights), row)
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
    return states_bar[:2] if inputs_bar is None else inputs_bar, weights_bar, gates_bar


_tape.defvjp(_tape_forward, _tape_backward)


Evaluation = Callable[[Cell, Array, CellWeights, Array], Array]

EVALUATIONS: Mapping[str, Evaluation] = {
    "plain": plain,
    "wide": wide,
    "tape": functools.partial(_tape, mixture),
    "single_path": functools.partial(_tape, selected),
}


def default_evaluation() -> str:
    """The fast evaluation of whole mixtures on the present backend: `tape` on the CPU, `wide` on accelerators."""
    return "tape" if backend.implementation() == "cpu" else "wide"
