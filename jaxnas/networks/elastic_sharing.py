"""What the architectures of an elastic space share: how the weights of all come from those that are learned.

A sharing gives the weights of the widest block of every layer under any gates, with the kernel already chosen and
zeros around it; which of their channels count is up to masks (`networks.elastic_supernet`). Stem, first block and all
that follows the blocks is shared by all architectures, whatever the sharing.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxnas.core.keys import named
from jaxnas.core.types import Array, Gates, Key, Params, PyTree
from jaxnas.networks.chain_supernet import Shapes, Weights, constant_or_drawn, linear_shapes, normalized_shapes
from jaxnas.networks.hypernetwork import hypernetwork
from jaxnas.networks.mobilenet_v3 import block_name
from jaxnas.networks.superkernel_supernet import centre, centred
from jaxnas.spaces.elastic import DEPTH, EXPANSION, KERNEL, Elastic, hidden_options, squeezed_channels

HYPERNETWORK = {"hidden": 16, "depth": 3}  # of the sharing "generated"


class Group(NamedTuple):
    """Consecutive layers of one shape, whose weights are one stack and whose blocks are iterations of one loop."""

    name: str
    numbers: tuple[int, ...]

    @property
    def rows(self) -> slice:
        """The group's among those of all layers."""
        return slice(self.numbers[0], self.numbers[-1] + 1)


class Sharing(NamedTuple):
    """A way to share weights.

    init: key -> what the blocks learn.
    weights: (that, gates) -> {group: the weights that `widest_shapes` tells, with a leading axis of its layers}.
    active: gates -> a pytree like what init gives, of booleans that broadcast against it: what took part.
    nested: whether what is learned are the widest blocks, of whose channels all others use the first.
    """

    init: Callable[[Key], Params]
    weights: Callable[[Params, Gates], Mapping[str, Weights]]
    active: Callable[[Gates], PyTree]
    nested: bool


def groups(plan: Elastic) -> tuple[Group, ...]:
    """The layers in groups: of every stage the first one, then the others."""
    found = []
    for stage in range(1, plan.stages + 1):
        numbers = [number for number, layer in enumerate(plan.layers) if layer.stage == stage]
        name = block_name(plan.layers[numbers[0]])
        found.append(Group(name, (numbers[0],)))
        if len(numbers) > 1:
            found.append(Group(f"{name}_after", tuple(numbers[1:])))
    return tuple(found)


def widest_shapes(plan: Elastic, number: int) -> Shapes:
    """The shapes of a layer's weights with the most hidden channels and the largest kernel."""
    layer, size, hidden = plan.layers[number], plan.kernels[-1], hidden_options(plan, number)[-1]
    shapes = {
        "expansion": normalized_shapes((layer.channels_in, hidden)),
        "depthwise": normalized_shapes((size, size, hidden)),
        "projection": normalized_shapes((hidden, layer.channels)),
    }
    if layer.squeeze:
        squeezed = squeezed_channels(plan, hidden)
        shapes |= {"squeeze": linear_shapes(hidden, squeezed), "excite": linear_shapes(squeezed, hidden)}
    return shapes


def running_gates(plan: Elastic, gates: Gates) -> Array:
    """How much every layer runs, [layers]: the sum of the gates of the depths that have it."""
    has = np.asarray([[layer.place < depth for depth in plan.depths] for layer in plan.layers], np.float32)
    return jnp.sum(gates[DEPTH][np.asarray([layer.stage - 1 for layer in plan.layers])] * has, axis=-1)


def elastic_kernel(sizes: tuple[int, ...], kernel: Array, transforms: Weights, gates: Array) -> Array:
    """Σ of gate · the kernel of a size, with zeros around it: [k, k, channels] of the largest size k; gates [sizes].

    A size's kernel is the centre of the next larger one's; transforms["to_3"] [9, 9], where there is one, adds to it
    that matrix times its taps, the same for every channel (Once-for-All, Cai et al. 2020, section 3.3, whose matrix is
    this one plus the identity: here weight decay draws to the identity instead of to zero).
    """
    total = gates[-1] * kernel
    for option, size in reversed(list(enumerate(sizes[:-1]))):
        kernel = centre(kernel, size)
        taps = kernel.reshape(size * size, -1)
        if f"to_{size}" in transforms:
            added = jnp.matmul(transforms[f"to_{size}"], taps, precision=lax.Precision.HIGHEST)
            kernel = (taps + added).reshape(kernel.shape)
        edge = (sizes[-1] - size) // 2
        total = total + jnp.pad(gates[option] * kernel, ((edge, edge), (edge, edge), (0, 0)))
    return total


def _stacked(layers: Mapping[str, Any], group: Group) -> Any:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *(layers[str(number)] for number in group.numbers))


def _drawn(plan: Elastic, key: Key, leading: tuple[int, ...] = (), without: tuple[str, ...] = ()) -> dict[str, Any]:
    """Initial weights {group: of shape [layers of the group, *leading, ...]}, without the kernels of some parts."""
    shapes = {str(number): dict(widest_shapes(plan, number)) for number in range(len(plan.layers))}
    for layer in shapes.values():
        layer |= {part: {name: of for name, of in layer[part].items() if name != "kernel"} for part in without}
    layers = constant_or_drawn(key, shapes, leading)
    return {group.name: _stacked(layers, group) for group in groups(plan)}


def _all_active(init: Callable[[Key], Params]) -> Callable[[Gates], PyTree]:
    """Everything takes part: what is nested is one network, and decays as a whole, as in Once-for-All's code."""
    return lambda gates: jax.tree.map(lambda leaf: jnp.asarray(True), jax.eval_shape(init, jax.random.key(0)))


def _chosen(plan: Elastic, group: Group, own: Weights, gates: Gates) -> Weights:
    """The weights of a group's widest blocks, with the kernel that the gates choose and without its transforms."""

    def of_layer(kernel: Array, transforms: Weights, of_kernel: Array) -> Array:
        return elastic_kernel(plan.kernels, kernel, transforms, of_kernel)

    transforms = own.get("transforms", {})
    kernel = jax.vmap(of_layer)(own["depthwise"]["kernel"], transforms, gates[KERNEL][group.rows])
    kept = {part: of for part, of in own.items() if part != "transforms"}
    return kept | {"depthwise": own["depthwise"] | {"kernel": kernel}}


def nested(plan: Elastic, *, transforms: bool) -> Sharing:
    """One widest network: others use its first channels and, transformed or as they are, the centres of its kernels.

    Transforms begin as the identity.
    """

    def init(key: Key) -> Params:
        params = _drawn(plan, key)
        if transforms:
            for group in groups(plan):
                zeros = {f"to_{size}": jnp.zeros((len(group.numbers), size**2, size**2)) for size in plan.kernels[:-1]}
                params[group.name] |= {"transforms": zeros}
        return params

    def weights(params: Params, gates: Gates) -> Mapping[str, Weights]:
        return {group.name: _chosen(plan, group, params[group.name], gates) for group in groups(plan)}

    return Sharing(init, weights, _all_active(init), nested=True)


def paths(plan: Elastic) -> Sharing:
    """Every layer has weights of its own for every kernel and expansion (Single Path One-Shot, Guo et al. 2020).

    Leaves have the axes [layers, kernels, expansions] and behind them the shape of the widest block, of which a pair
    uses its part; the rest never has a gradient. Under mixed gates the weights are mixed.
    """
    sizes = plan.kernels
    taps = centred(sizes)

    def pairs(gates: Gates, group: Group) -> Array:
        """[layers, kernels, expansions]."""
        return gates[KERNEL][group.rows][:, :, None] * gates[EXPANSION][group.rows][:, None]

    def init(key: Key) -> Params:
        return _drawn(plan, key, leading=(len(sizes), len(plan.expansions)))

    def weights(params: Params, gates: Gates) -> Mapping[str, Weights]:
        def mixed(group: Group) -> Weights:
            own, of_pair = dict(params[group.name]), pairs(gates, group)
            own["depthwise"] = own["depthwise"] | {"kernel": own["depthwise"]["kernel"] * taps[:, None]}
            return jax.tree.map(lambda leaf: jnp.sum(_fitted(of_pair, leaf) * leaf, axis=(1, 2)), own)

        return {group.name: mixed(group) for group in groups(plan)}

    def active(gates: Gates) -> PyTree:
        shapes, runs = jax.eval_shape(init, jax.random.key(0)), running_gates(plan, gates)
        took_part = {group.name: pairs(gates, group) * runs[group.rows, None, None] > 0 for group in groups(plan)}
        return {name: jax.tree.map(lambda leaf, of=took_part[name]: _fitted(of, leaf), shapes[name]) for name in shapes}

    return Sharing(init, weights, active, nested=False)


def _fitted(values: Array, leaf: Any) -> Array:
    """Values with axes of length 1 behind their own, as many as the leaf has more."""
    return values.reshape(*values.shape, *[1] * (len(leaf.shape) - values.ndim))


def generated(plan: Elastic) -> Sharing:
    """Pointwise kernels of all blocks come from a hypernetwork that reads the architecture (SMASH, Brock et al. 2017).

    It reads two rows for each layer, of its expansion and of its projection: whether it runs, with that its kernel and
    its expansion, its stage and its place, all one-hot. The other weights are learned, shared as those of `nested`
    without transforms.
    """
    parts = ("expansion", "projection")
    shapes = [widest_shapes(plan, number)[part]["kernel"] for number in range(len(plan.layers)) for part in parts]
    # What does not depend on the architecture: [2 · layers, stages + places + parts].
    places = np.asarray([(layer.stage - 1, layer.place) for layer in plan.layers]).repeat(len(parts), axis=0)
    part_of_row = np.tile(np.eye(len(parts)), (len(plan.layers), 1))
    fixed = np.concatenate(
        [np.eye(plan.stages)[places[:, 0]], np.eye(plan.depths[-1])[places[:, 1]], part_of_row], axis=1
    )
    features = 1 + len(plan.kernels) + len(plan.expansions) + fixed.shape[1]
    writer = hypernetwork(features, shapes, **HYPERNETWORK)

    def init(key: Key) -> Params:
        return {"hypernetwork": writer.init(named(key, "hypernetwork")), **_drawn(plan, key, without=parts)}

    def weights(params: Params, gates: Gates) -> Mapping[str, Weights]:
        runs = running_gates(plan, gates)[:, None]
        chosen = jnp.concatenate([runs, runs * gates[KERNEL], runs * gates[EXPANSION]], axis=-1)
        encoding = jnp.concatenate([jnp.repeat(chosen, len(parts), axis=0), jnp.asarray(fixed, chosen.dtype)], axis=-1)
        written = writer.generate(params["hypernetwork"], encoding)
        found = {}
        for group in groups(plan):
            own = dict(_chosen(plan, group, params[group.name], gates))
            for number, part in enumerate(parts):
                kernels = [written[len(parts) * layer + number] for layer in group.numbers]
                own[part] = own[part] | {"kernel": jnp.stack(kernels)}
            found[group.name] = own
        return found

    return Sharing(init, weights, _all_active(init), nested=False)


SHARINGS: Mapping[str, Callable[[Elastic], Sharing]] = {
    "slices": lambda plan: nested(plan, transforms=True),
    "superkernel": lambda plan: nested(plan, transforms=False),
    "paths": paths,
    "generated": generated,
}
