"""The supernet of SMASH's memory-bank space: a hypernetwork writes the 1×1 convolutions, all else is shared.

Source: Brock et al. 2017. The hypernetwork reads what the gates say of each operation and writes the kernel with which
it reads its banks. The k×k convolutions of all operations of a block are slices of one tensor: the first hidden
channels of a width, the centre of a kernel. Every operation has a scale and a shift of its own after each
normalisation, which is by the statistics of the batch; the paper normalises kernels instead.

Banks, kernels and widths are masks, so that one program serves all architectures; under soft gates a mask is the
gate-weighted sum of those of the options. Dilations are branches, of which few may run.
"""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxnas.core.keys import named
from jaxnas.core.types import Architecture, Array, Dropout, Gates, Key, Network, Params, PyTree
from jaxnas.layers.convolution import convolution, pointwise
from jaxnas.layers.normalization import Statistics, leading
from jaxnas.networks.chain_supernet import (
    Shapes,
    Weights,
    constant_or_drawn,
    linear,
    linear_shapes,
    normalized,
    normalized_shapes,
)
from jaxnas.networks.choice import run_paths
from jaxnas.networks.elastic_extraction import initial_statistics
from jaxnas.networks.family import Images
from jaxnas.networks.hypernetwork import Hypernetwork, hypernetwork
from jaxnas.networks.memory_bank_network import check_halvings, halved
from jaxnas.networks.superkernel_supernet import centre, centred, first_channels, weighed
from jaxnas.spaces.memory_banks import (
    DILATION,
    KERNEL,
    READS,
    WIDTH,
    WRITES,
    MemoryBanks,
    bank_operations,
    hidden_options,
    membership,
    memory_banks_space,
)
from jaxnas.spaces.space import encode


class Masks(NamedTuple):
    """What the gates of operations multiply, with an axis of operations in front.

    reads, writes: banks, [banks]. kernel: its pixels, [k, k, 1]. width: hidden channels, [hidden]. dilations: the gates
    of these branches, [dilations].
    """

    reads: Array
    writes: Array
    kernel: Array
    width: Array
    dilations: Array


def block_masks(plan: MemoryBanks, block: int, gates: Gates) -> Masks:
    """The masks of the operations of one block, which is numbered from 0."""
    own = {part: values[block * plan.depth : (block + 1) * plan.depth] for part, values in gates.items()}
    of_operations = jax.vmap(weighed, (0, None))
    return Masks(
        reads=of_operations(own[READS], membership(plan)),
        writes=of_operations(own[WRITES], membership(plan)),
        kernel=of_operations(own[KERNEL], centred(plan.kernels)),
        width=of_operations(own[WIDTH], first_channels(hidden_options(plan, block))),
        dilations=own[DILATION],
    )


def encoding(plan: MemoryBanks, gates: Gates) -> Array:
    """What the hypernetwork reads of each operation, float [operations, features].

    Which banks it reads and writes, its kernel, dilation and width as gates, and its block, one-hot.
    """
    of_operations = jax.vmap(weighed, (0, None))
    banks = [of_operations(gates[part], membership(plan)) for part in (READS, WRITES)]
    blocks = np.repeat(np.eye(len(plan.bank_channels), dtype=np.float32), plan.depth, axis=0)
    return jnp.concatenate([*banks, gates[KERNEL], gates[DILATION], gates[WIDTH], blocks], axis=-1)


def writer(plan: MemoryBanks, hidden: int, depth: int) -> Hypernetwork:
    """The hypernetwork that writes a kernel [channels of all banks, hidden channels of the widest] for each operation.

    hidden, depth: see `networks.hypernetwork`.
    """
    blocks = enumerate(plan.bank_channels)
    kernels = [(plan.banks * channels, hidden_options(plan, block)[-1]) for block, channels in blocks]
    features = 2 * plan.banks + sum(len(of) for of in (plan.kernels, plan.dilations, plan.width_fractions))
    rows = [kernel for kernel in kernels for _ in range(plan.depth)]
    return hypernetwork(features + len(plan.bank_channels), rows, hidden=hidden, depth=depth)


def shared_shapes(plan: MemoryBanks, images: Images) -> Shapes:
    """The shapes of all weights that are learned as they are; those of operations have an axis of them in front."""
    shapes: dict[str, Any] = {
        "stem": normalized_shapes((3, 3, images.channels, plan.filled * plan.bank_channels[0])),
        "normalization": _scales(plan.banks * plan.bank_channels[-1]),
        "classifier": linear_shapes(plan.banks * plan.bank_channels[-1], images.classes),
    }
    for block, channels in enumerate(plan.bank_channels):
        hidden = hidden_options(plan, block)[-1]
        shapes[f"block_{block}"] = {
            "kernel": (plan.kernels[-1], plan.kernels[-1], hidden, channels),
            "read": _scales(plan.depth, hidden),
            "write": _scales(plan.depth, channels),
        }
        if block:
            before = plan.banks * plan.bank_channels[block - 1]
            shapes[f"transition_{block}"] = {"kernel": (before, plan.filled * channels), **_scales(before)}
    return shapes


def _scales(*shape: int) -> Shapes:
    return {"scale": shape, "shift": shape}


def memory_bank_supernet(
    plan: MemoryBanks,
    images: Images,
    hypernetwork_hidden: int,
    hypernetwork_depth: int,
    *,
    paths: int | None = None,
    bare_gates: bool = False,
    recompute: bool = False,
    calibrate: int = 0,
) -> Network:
    """The supernet as a Network over gates of `spaces.memory_banks.memory_banks_space`, one-hot or not.

    hypernetwork_hidden, hypernetwork_depth: see `networks.hypernetwork`. All weights are `active` under all gates.
    paths: how many dilations run, those of the largest gates; None for all. Banks, kernels and widths are masks, which
    always run once. bare_gates: with paths, see `networks.choice.run_paths`. recompute: run an operation again going
    back instead of keeping what it computed. calibrate: how many examples of a batch, its first, normalise it; 0 for
    all of them. Raises UserError, when applied, for images that cannot be halved between the blocks.
    """
    statistics = leading(images.axis_name, calibrate)
    writes = writer(plan, hypernetwork_hidden, hypernetwork_depth)
    branches = tuple(functools.partial(_write, statistics, dilation) for dilation in plan.dilations)
    few = paths and min(paths, len(branches))

    def init(key: Key) -> Params:
        shared = constant_or_drawn(named(key, "shared"), shared_shapes(plan, images))
        return shared | {"hypernetwork": writes.init(named(key, "hypernetwork"))}

    def operation(held: Array, shared: Array, kernel: Array, own: Weights, masks: Masks) -> Array:
        """One operation: all banks [b, h, w, banks · channels] before it -> after it."""
        banks = kernel.reshape(plan.banks, -1, kernel.shape[-1]) * masks.reads[:, None, None]
        hidden = normalized(own["read"], pointwise(held, banks.reshape(kernel.shape)), statistics)
        inputs = jax.nn.relu(hidden) * masks.width
        weights = own["write"] | {"kernel": shared * masks.kernel[..., None]}
        if few:
            output = run_paths(branches, few, bare_gates, inputs, weights, masks.dilations)
        else:
            outputs = (gate * branch(inputs, weights) for gate, branch in zip(masks.dilations, branches, strict=True))
            output: Array = functools.reduce(jnp.add, outputs)
        return held + (output[..., None, :] * masks.writes[:, None]).reshape(held.shape)

    run = jax.checkpoint(operation) if recompute else operation

    def run_block(block: int, held: Array, params: Params, kernels: list[Array], gates: Gates) -> Array:
        own = params[f"block_{block}"]
        scales = {half: own[half] for half in ("read", "write")}

        def body(held: Array, scanned: PyTree) -> tuple[Array, None]:
            return run(held, own["kernel"], *scanned), None

        return lax.scan(body, held, (jnp.stack(kernels), scales, block_masks(plan, block, gates)))[0]

    def apply(params: Params, gates: Gates, batch: Array, noise: Dropout | None = None) -> Array:
        del noise
        check_halvings(batch.shape[1:3], len(plan.bank_channels))
        kernels = writes.generate(params["hypernetwork"], encoding(plan, gates))
        entered = normalized(params["stem"], convolution(batch, params["stem"]["kernel"]), statistics)
        held = entered
        for block, channels in enumerate(plan.bank_channels):
            if block:
                own = params[f"transition_{block}"]
                entered = halved(pointwise(jax.nn.relu(normalized(own, held, statistics)), own["kernel"]))
            held = jnp.pad(entered, ((0, 0), (0, 0), (0, 0), (0, (plan.banks - plan.filled) * channels)))
            rows = kernels[block * plan.depth : (block + 1) * plan.depth]
            held = run_block(block, held, params, rows, gates)
        last = jax.nn.relu(normalized(params["normalization"], held, statistics))
        return linear(params["classifier"], jnp.mean(last, axis=(1, 2)))

    def active(gates: Gates) -> PyTree:
        del gates
        return jax.tree.map(lambda leaf: jnp.asarray(True), jax.eval_shape(init, jax.random.key(0)))

    return Network(init, apply, active, extract=functools.partial(extracted, plan, writes))


def _write(statistics: Statistics, dilation: int, inputs: Array, weights: Weights, noise: None = None) -> Array:
    """The second half of an operation with one dilation: [b, h, w, hidden] -> [b, h, w, channels]."""
    del noise  # there is nothing to drop
    return normalized(weights, convolution(inputs, weights["kernel"], dilation=dilation), statistics)


def extracted(
    plan: MemoryBanks, writes: Hypernetwork, params: Params, architecture: Architecture
) -> Mapping[str, PyTree]:
    """{"params", "batch_stats"} of the `MemoryBankNetwork` of a concrete architecture, in the precision of the params.

    The running statistics are those that a network begins with. Raises UserError where the architecture's numbers do
    not fit the space.
    """
    gates = encode(memory_banks_space(plan), architecture)
    kernels = writes.generate(params["hypernetwork"], encoding(plan, gates))
    found = {
        "stem": _module(params["stem"], params["stem"]["kernel"]),
        "normalization": _module(params["normalization"])["normalization"],
        "classifier": params["classifier"],
    }
    for block, operations in enumerate(bank_operations(plan, architecture)):
        own, channels = params[f"block_{block}"], plan.bank_channels[block]
        if block:
            before = params[f"transition_{block}"]
            found[f"transition_{block}"] = _module(before, before["kernel"])
        for place, one in enumerate(operations):
            name = f"block_{block + 1}_operation_{place + 1}"
            read = kernels[block * plan.depth + place].reshape(plan.banks, channels, -1)[
                list(one.reads), :, : one.hidden
            ]
            scales = {key: leaf[place, : one.hidden] for key, leaf in own["read"].items()}
            found[f"{name}_read"] = _module(scales, read.reshape(-1, one.hidden))
            scales = {key: leaf[place] for key, leaf in own["write"].items()}
            found[f"{name}_write"] = _module(scales, centre(own["kernel"], one.kernel)[:, :, : one.hidden])
    return {"params": found, "batch_stats": initial_statistics(found)}


def _module(own: Weights, kernel: Array | None = None) -> dict[str, Any]:
    """The weights of a module that convolves, unless there is no kernel, and normalises."""
    scaled = {"normalization": {"batch_norm": {"scale": own["scale"], "bias": own["shift"]}}}
    return scaled if kernel is None else {"convolution": {"kernel": kernel}, **scaled}
