"""A wide ResNet of which every convolution may be any of several substitutes: which one is what is searched.

The convolutions of the blocks are the choices; stem, shortcuts and classifier stay. An option is "dense", or a kind of
`layers.substitutes` with the share of the dense layer's parameters that it may have, "low_rank@0.25".
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict

from jaxnas.core.errors import UserError, choose
from jaxnas.core.keys import at_step, named
from jaxnas.core.types import Architecture, Array, Dropout, Gates, Key, Network, Params, PyTree
from jaxnas.layers.convolution import convolution
from jaxnas.layers.normalization import batch_norm, leading
from jaxnas.layers.operations import init_weights
from jaxnas.layers.substitutes import KINDS, within_budget
from jaxnas.networks.cell_operations import PYTORCH_GAIN, Convolution, Normalization
from jaxnas.networks.census import ConvolutionLayer, census
from jaxnas.networks.choice import Branch, run_paths
from jaxnas.networks.family import Component, Family, Images, Term
from jaxnas.networks.initial import init_variables
from jaxnas.networks.residual_network import WideResNet
from jaxnas.networks.substituted import Replacement, SubstitutedNetwork, apply_substitute
from jaxnas.spaces.product import product_space

PART, DENSE = "layers", "dense"
KEPT = ("stem", "shortcut")


class Candidate(nn.Module):
    """A layer under one of its options, by itself: a dense convolution where the replacement is None."""

    layer: ConvolutionLayer
    replacement: Replacement | None

    @nn.compact
    def __call__(self, images: Array, train: bool) -> Array:
        """[b, h, w, in] -> [b, h / stride, w / stride, features]."""
        del train
        dense, stride = self.layer.dense, self.layer.stride
        if self.replacement is None:
            return Convolution(dense.features, dense.size, stride, name="convolution")(images)
        return apply_substitute(self, self.replacement.substitute(), images, stride, None)


class Choice(NamedTuple):
    """A layer, and what each of its options puts in its place, None for the dense layer; which of them it can have."""

    layer: ConvolutionLayer
    options: tuple[Replacement | None, ...]
    allowed: tuple[bool, ...]


def substitutes(images: Images, *, depth: int, width: int, candidates: tuple[str, ...]) -> Family:
    """Which substitute every convolution of WRN-depth-width gets (no published space; of Gray et al. 2019's layers).

    candidates: names of the options. A layer lacks those whose least size exceeds their share. Raises UserError for an
    unknown kind, a share that is not between 0 and 1, and an option that no layer can have.
    """
    base = WideResNet(depth, width, images.classes)
    counted = census(base, images.shape).convolutions
    choices = tuple(_choice(layer, candidates) for layer in counted if not set(layer.path) & set(KEPT))
    allowed = np.asarray([choice.allowed for choice in choices])
    for option, able in zip(candidates, np.any(allowed, axis=0).tolist(), strict=True):
        if not able:
            raise UserError(f"space.candidates has {option!r}, which no layer can be as small as; raise its share.")
    space = product_space("substitutes", {PART: candidates}, {PART: len(choices)}, allowed={PART: allowed})

    def network(architecture: Architecture, axis_name: str | None) -> SubstitutedNetwork:
        chosen = zip(choices, np.asarray(architecture[PART]), strict=True)
        replaced = (choice.options[int(number)] for choice, number in chosen)
        return SubstitutedNetwork(base.clone(axis_name=axis_name), tuple(one for one in replaced if one))

    return Family(
        space=space,
        # By position, so that they are no settings of methods.
        supernet=functools.partial(_supernet, images, base, choices),
        network=network,
        terms=lambda: [_term(row, choice) for row, choice in enumerate(choices)],
        describe=space.canonical,
        rows={PART: tuple(choice.layer.name for choice in choices)},
    )


def _choice(layer: ConvolutionLayer, candidates: tuple[str, ...]) -> Choice:
    options, allowed = zip(*(_option(name, layer) for name in candidates), strict=True)
    return Choice(layer, options, allowed)


def _option(name: str, layer: ConvolutionLayer) -> tuple[Replacement | None, bool]:
    """What an option puts in a layer's place, and whether the layer can be as small as it asks."""
    if name == DENSE:
        return None, True
    kind, _, share = name.partition("@")
    choose("substitute", kind, KINDS)
    try:
        fraction = float(share)
    except ValueError:
        fraction = 0.0
    if not 0 < fraction < 1:
        raise UserError(f"the candidate {name!r} has to be written KIND@SHARE with a share between 0 and 1.")
    try:
        setting, made = within_budget(kind, layer.dense, int(layer.dense.params * fraction))
    except UserError:
        return None, False
    return Replacement(layer.path, layer.dense, kind, setting), made.params < layer.dense.params


def _term(row: int, choice: Choice) -> Term:
    layer, dense = choice.layer, choice.layer.dense
    height, width = (size * layer.stride for size in layer.output)
    shape = f"{dense.size[0]}x{dense.size[1]} {dense.inputs}x{height}x{width} c{dense.features} s{layer.stride}"
    pieces = np.empty(len(choice.options), object)
    for number, (option, able) in enumerate(zip(choice.options, choice.allowed, strict=True)):
        name = f"{DENSE if option is None else f'{option.kind}_{option.setting}'} {shape}"
        component = Component(name, Candidate(layer, option), (height, width, dense.inputs))
        pieces[number] = (component,) if able else ()
    return Term(((PART, row),), pieces)


def _supernet(
    images: Images,
    base: WideResNet,
    choices: tuple[Choice, ...],
    *,
    paths: int | None = None,
    bare_gates: bool = False,
    recompute: bool = False,
    calibrate: int = 0,
) -> Network:
    """The supernet over gates {"layers": [layers, options]}, normalised by the statistics of its batches.

    paths: None runs every option of a layer, k those of the k largest gates. bare_gates: see `choice.run_paths`.
    recompute: without paths, run the options again going back instead of keeping what they computed.
    calibrate: how many examples of a batch, its first, normalise it; 0 for all of them.
    """
    statistics = leading(images.axis_name, calibrate)
    rows = {choice.layer.path: row for row, choice in enumerate(choices)}
    branches = [
        tuple(_branch(choice.layer, str(number), *one) for number, one in enumerate(_options(choice)))
        for choice in choices
    ]

    def init(key: Key) -> Params:
        flat = flatten_dict(init_variables(base, named(key, "base"), images.shape)["params"])
        kept = unflatten_dict({path: leaf for path, leaf in flat.items() if path[:-1] not in rows})
        own = {str(row): _weights(at_step(key, PART, row), choice) for row, choice in enumerate(choices)}
        return {"base": kept, "layers": own}

    def apply(params: Params, gates: Gates, batch: Array, noise: Dropout | None = None) -> Array:
        del noise  # there is nothing to drop
        own: dict[Any, Any] = dict(flatten_dict(params["base"]))

        def mixed(call: Any, arguments: Any, keywords: Any, context: nn.module.InterceptorContext) -> Any:
            module, called = context.module, context.method_name == "__call__"
            if called and isinstance(module, Normalization):
                scale, shift = (own[*module.path, "batch_norm", name] for name in ("scale", "bias"))
                return batch_norm(arguments[0], statistics) * scale + shift
            if not called or module.path not in rows:
                return call(*arguments, **keywords)
            row = rows[module.path]
            weights, gate = params["layers"][str(row)], gates[PART][row]
            if paths is not None:
                few = min(paths, len(branches[row]))
                return run_paths(branches[row], few, bare_gates, arguments[0], weights, gate, None)

            def mixture(inputs: Array, weights: Params, gate: Array) -> Array:
                runs = (gate[number] * run(inputs, weights, None) for number, run in enumerate(branches[row]))
                return functools.reduce(jnp.add, runs)

            return (jax.checkpoint(mixture) if recompute else mixture)(arguments[0], weights, gate)

        with nn.intercept_methods(mixed):
            return base.apply({"params": params["base"]}, batch, train=True)[0]

    def active(gates: Gates) -> PyTree:
        shapes, used = jax.eval_shape(init, jax.random.key(0)), gates[PART] > 0
        layers = {
            row: {
                number: jax.tree.map(lambda leaf, on=used[int(row), int(number)]: on.reshape([1] * leaf.ndim), leaves)
                for number, leaves in options.items()
            }
            for row, options in shapes["layers"].items()
        }
        return {"base": jax.tree.map(lambda leaf: True, shapes["base"]), "layers": layers}

    return Network(init, apply, active)


def _options(choice: Choice) -> Sequence[tuple[Replacement | None, bool]]:
    return list(zip(choice.options, choice.allowed, strict=True))


def _weights(key: Key, choice: Choice) -> Params:
    """The weights of every option of a layer, {"number of the option": {name: array}}; none for one that it lacks."""
    dense, weights = choice.layer.dense, {}
    for number, (option, able) in enumerate(_options(choice)):
        own = jax.random.fold_in(key, number)
        if not able:
            weights[str(number)] = {}
        elif option is None:
            (kernel,) = init_weights(own, [(*dense.size, dense.inputs, dense.features)])
            weights[str(number)] = {"kernel": kernel * (dense.gain / PYTORCH_GAIN) ** 0.5}
        else:
            weights[str(number)] = option.substitute().init(own)
    return weights


def _branch(layer: ConvolutionLayer, number: str, option: Replacement | None, able: bool) -> Branch:
    """What the layer computes under one of its options, from the weights of all."""

    def run(inputs: Array, weights: Params, noise: None) -> Array:
        del noise
        if not able:  # its gate is zero
            height, width = (-(-size // layer.stride) for size in inputs.shape[1:3])
            return jnp.zeros((inputs.shape[0], height, width, layer.dense.features), inputs.dtype)
        if option is None:
            return convolution(inputs, weights[number]["kernel"], stride=layer.stride)
        return option.substitute().apply(weights[number], inputs, layer.stride, None)

    return run
