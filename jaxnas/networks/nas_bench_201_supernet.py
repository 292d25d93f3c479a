"""The supernet of NAS-Bench-201: three stages of one mixed cell with residual blocks between (Dong & Yang 2020).

It normalises by the statistics of its batches and, in the cells, without learned scale and shift.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxnas.core.errors import choose
from jaxnas.core.keys import named
from jaxnas.core.types import Array, Dropout, Gates, Key, Network, Params, PyTree
from jaxnas.layers.convolution import convolution, pointwise
from jaxnas.layers.normalization import batch_norm, leading
from jaxnas.layers.operations import init_weights
from jaxnas.networks.family import Images
from jaxnas.networks.mixed_cell import EVALUATIONS, Cell, default_evaluation, groups, weight_shapes
from jaxnas.networks.nas_bench_201 import STAGES, check_size
from jaxnas.spaces.nas_bench_201 import EDGES, OPERATIONS, PART, SUPERNET_OPERATIONS


def nas_bench_201_supernet(
    images: Images,
    *,
    channels: int,
    cells: int,
    paths: int | None = None,
    bare_gates: bool = False,
    recompute: bool = True,
    calibrate: int = 0,
) -> Network:
    """The supernet over gates {"cell": [6 edges, 5 operations]}, which all cells share.

    channels: of the first stage. cells: of a stage. paths, bare_gates: see `networks.mixed_cell.Cell`. recompute: as
    for `networks.cell_supernet`. calibrate: how many examples of a batch, its first, normalise it; 0 for all of them.
    Raises UserError, when applied, for images that cannot be halved twice.
    """
    statistics = leading(images.axis_name, calibrate)
    cell = Cell(
        operations=tuple(SUPERNET_OPERATIONS[name] for name in OPERATIONS),
        edges=EDGES,
        reduction=False,
        statistics=statistics,
        paths=paths and min(paths, len(OPERATIONS)),
        bare_gates=bare_gates,
        inputs=1,
        concatenated=False,
    )
    (group,) = groups(cell)
    evaluation = default_evaluation(paths)
    evaluate = choose("evaluation", evaluation, EVALUATIONS)
    if recompute and evaluation == "wide":
        evaluate = jax.checkpoint(evaluate, static_argnums=0)

    def shapes() -> dict[str, Any]:
        last = channels * 2 ** (STAGES - 1)
        found: dict[str, Any] = {"stem": (3, 3, images.channels, channels), "classifier": (last, images.classes)}
        for stage in range(1, STAGES):
            width = channels * 2**stage
            found[f"reduction_{stage}"] = {
                "first": (3, 3, width // 2, width),
                "second": (3, 3, width, width),
                "shortcut": (width // 2, width),
            }
        return found

    def init(key: Key) -> Params:
        params = init_weights(named(key, "kernels"), shapes())
        for stage in range(STAGES):
            kernels = weight_shapes(cell, group, channels * 2**stage)
            params[f"stage_{stage}"] = init_weights(named(key, f"stage_{stage}"), kernels, (cells, len(EDGES)))
        return params | {"bias": jnp.zeros(images.classes)}

    def reduce(weights: Params, hidden: Array) -> Array:
        batch, height, width, depth = hidden.shape
        first = batch_norm(convolution(jax.nn.relu(hidden), weights["first"], stride=2), statistics)
        second = batch_norm(convolution(jax.nn.relu(first), weights["second"]), statistics)
        means = jnp.mean(hidden.reshape(batch, height // 2, 2, width // 2, 2, depth), axis=(2, 4))
        return pointwise(means, weights["shortcut"]) + second

    def apply(params: Params, gates: Gates, batch: Array, noise: Dropout | None = None) -> Array:
        check_size(batch)
        hidden = batch_norm(convolution(batch, params["stem"]), statistics)
        for stage in range(STAGES):
            if stage:
                hidden = reduce(params[f"reduction_{stage}"], hidden)

            def body(hidden: Array, scanned: PyTree, stage: int = stage) -> tuple[Array, None]:
                weights, number = scanned
                own = noise and noise._replace(key=jax.random.fold_in(noise.key, number + stage * cells))
                return evaluate(cell, hidden[None], {group.name: weights}, gates[PART], own), None

            hidden, _ = lax.scan(body, hidden, (params[f"stage_{stage}"], jnp.arange(cells)))
        hidden = jax.nn.relu(batch_norm(hidden, statistics))
        return jnp.mean(hidden, axis=(1, 2)) @ params["classifier"] + params["bias"]

    def active(gates: Gates) -> PyTree:
        used = gates[PART] > 0
        everywhere = jax.tree.map(lambda shape: True, shapes(), is_leaf=lambda node: isinstance(node, tuple))
        for stage in range(STAGES):
            everywhere[f"stage_{stage}"] = {
                operation: {
                    name: used[:, cell.operations.index(operation)].reshape(1, -1, *[1] * len(shape))
                    for name, shape in own.items()
                }
                for operation, own in weight_shapes(cell, group, channels).items()
            }
        return everywhere | {"bias": True}

    return Network(init, apply, active)
