"""Several searches in one program, and one search on several devices. The only module that uses `jax.pmap`.

On N devices every device holds the whole state and the whole dataset; a step's batch is cut into N equal slices, and
gradients and metrics are averaged, so that the result is that of one device on the same batch.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxnas.core.errors import UserError
from jaxnas.core.types import Array, PyTree
from jaxnas.layers.backend import compiler_options

AXIS = "devices"


class Devices(NamedTuple):
    """How many devices share a batch, and the collectives to use inside a step (identities on a single device)."""

    number: int = 1

    @property
    def axis_name(self) -> str | None:
        """The mapped axis, None on a single device."""
        return AXIS if self.number > 1 else None

    def mean(self, tree: PyTree) -> PyTree:
        """The mean over devices of every leaf."""
        return lax.pmean(tree, AXIS) if self.number > 1 else tree

    def total(self, tree: PyTree) -> PyTree:
        """The sum over devices of every leaf."""
        return lax.psum(tree, AXIS) if self.number > 1 else tree

    def replicate(self, tree: PyTree) -> PyTree:
        """Puts every leaf on all devices, once; on a single device it stays as it is."""
        if self.number == 1:
            return tree
        mesh = Mesh(np.asarray(jax.local_devices()[: self.number]), (AXIS,))
        return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))

    def eval_shape(self, function: Callable[..., PyTree], *arguments: PyTree) -> PyTree:
        """The shapes of function(*arguments) on one device, with the mapped axis bound for its collectives."""
        if self.number == 1:
            return jax.eval_shape(function, *arguments)
        mapped = jax.vmap(function, in_axes=None, axis_name=AXIS, axis_size=self.number)
        stacked = jax.eval_shape(mapped, *arguments)
        return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), stacked)

    def shard(self, rows: Array) -> Array:
        """This device's slice of a batch, [batch] -> [batch / number]; also of [batch] keys."""
        if self.number == 1:
            return rows
        share = rows.shape[0] // self.number
        return lax.dynamic_slice_in_dim(rows, lax.axis_index(AXIS) * share, share)


def check_platform() -> None:
    """Starts JAX; raises UserError when the platform that it was told to run on is not there."""
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:  # an assertion where a known platform's plugin is not installed
        asked = jax.config.values["jax_platforms"] or "the default platform"
        raise UserError(
            f"JAX cannot start on {asked!r}: {' '.join(str(error).split()) or 'it is not installed here'}; "
            "look at JAX_PLATFORMS, or install that platform's jaxlib."
        ) from error


def check_devices(count: int, batch_sizes: dict[str, int]) -> Devices:
    """Checks that the machine has `count` devices and that they divide every batch size; raises UserError if not."""
    available = jax.local_device_count()
    if not 1 <= count <= available:
        raise UserError(f"devices is {count}, but this machine has {available} ({jax.default_backend()}).")
    for name, size in batch_sizes.items():
        if size % count:
            nearest = max(count, count * round(size / count))
            raise UserError(f"{name} {size} does not divide over {count} devices; the nearest that does is {nearest}.")
    return Devices(count)


def over_seeds(function: Callable[..., PyTree], *, one_by_one: bool) -> Callable[..., PyTree]:
    """Maps function(state, *shared) over the leading axis of state, one entry per seed.

    The seeds run as one batched program or, with `one_by_one`, one after another inside the program. One seed runs as
    if there were no axis.
    """

    def mapped(state: PyTree, *shared: PyTree) -> PyTree:
        if jax.tree.leaves(state)[0].shape[0] == 1:
            alone = function(jax.tree.map(lambda leaf: leaf[0], state), *shared)
            return jax.tree.map(lambda leaf: leaf[None], alone)
        if one_by_one:
            return lax.map(lambda one: function(one, *shared), state)
        return jax.vmap(function, in_axes=(0, *[None] * len(shared)))(state, *shared)

    return mapped


def prefers_one_by_one(branches: bool) -> bool:
    """Whether seeds should run one after another: on the CPU, where batching gains nothing, and for branching programs.

    branches: whether the program chooses what to run by its data (a `switch`); batched, it would run every branch.
    """
    return branches or jax.default_backend() == "cpu"


@jax.jit
def one_of(states: PyTree, number: Array | int) -> PyTree:
    """The entry of one seed in states with a leading axis of seeds; one program, however many leaves there are."""
    return jax.tree.map(lambda leaf: leaf[number], states)


class Program(NamedTuple):
    """A compiled function, and the bytes of memory on each device for its arguments, results and scratch."""

    run: Callable[..., Any]
    memory: int

    def __call__(self, *arguments: PyTree) -> Any:
        """The function's result."""
        return self.run(*arguments)


def compile_program(function: Callable[..., PyTree], devices: Devices, *arguments: PyTree) -> Program:
    """Traces and compiles function(*arguments) once, for these devices; the first argument's buffers are reused.

    Arguments and results are whole arrays, on several devices replicated (see `Devices.replicate`); the function's
    results must be the same on every device.
    """
    if devices.number == 1:
        alone = jax.jit(function, donate_argnums=0).lower(*arguments).compile(compiler_options())
        return Program(alone, _memory(alone))
    numbers = jnp.arange(devices.number)  # pmap needs an argument that differs between devices
    mapped = jax.pmap(
        lambda number, *arguments: function(*arguments),
        axis_name=AXIS,
        in_axes=(0, *[None] * len(arguments)),
        out_axes=None,
        devices=jax.local_devices()[: devices.number],
        donate_argnums=1,
    )
    program = mapped.lower(numbers, *arguments).compile(compiler_options())
    return Program(lambda *arguments: program(numbers, *arguments), _memory(program))


def _memory(program: Any) -> int:
    """What XLA says that a program takes; 0 where it does not say."""
    said = program.memory_analysis()
    if said is None:
        return 0
    whole = said.argument_size_in_bytes + said.output_size_in_bytes + said.temp_size_in_bytes
    return int(whole - said.alias_size_in_bytes)


def init_over_seeds(init: Callable[..., PyTree], seeds: tuple[int, ...], before: PyTree = ()) -> PyTree:
    """init(key, before) for every seed, stacked along a new leading axis; before has one entry per seed."""
    keys = jnp.stack([jax.random.key(seed) for seed in seeds])
    return jax.jit(lambda keys, before: lax.map(lambda one: init(*one), (keys, before)))(keys, before)
