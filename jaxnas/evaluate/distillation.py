"""Learning from a trained teacher: by its soft answers, and by where in its images it is active."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.traverse_util import flatten_dict

from jaxnas.core.errors import UserError, unknown
from jaxnas.core.types import Array, PyTree

CALL = "__call__"


class Distillation(NamedTuple):
    """A teacher network, and what a student learns from it besides the labels.

    taps: (student's module, teacher's module) pairs, each named by its path, "group_1/block_2".
    attention: β, the weight of the attention maps at the taps, as for three of them. soft: α, the share of the loss
    that is the divergence from the teacher's answers at `temperature`.
    """

    teacher: nn.Module
    taps: tuple[tuple[str, str], ...]
    attention: float
    soft: float
    temperature: float


def attention_map(features: Array) -> Array:
    """Where features [b, h, w, c] are active: means of squares over channels, [b, h · w], each of length 1.

    Source: Zagoruyko & Komodakis 2017, eq. 1 and 2.
    """
    energies = jnp.mean(jnp.square(features), axis=-1).reshape(features.shape[0], -1)
    return energies / jnp.maximum(jnp.linalg.norm(energies, axis=-1, keepdims=True), 1e-12)


def attention_loss(student: Sequence[Array], teacher: Sequence[Array], weight: float) -> Array:
    """β · 3 / taps times the sum over taps of the mean squared difference of attention maps.

    The factor keeps the published β = 1000, for three taps, right for any number (Gray, Crowley & Storkey 2019).
    """
    differences = [
        jnp.mean(jnp.square(attention_map(ours) - attention_map(theirs)))
        for ours, theirs in zip(student, teacher, strict=True)
    ]
    return weight * 3 / len(differences) * sum(differences, jnp.zeros(()))


def soft_loss(student: Array, teacher: Array, temperature: float) -> Array:
    """T² KL(teacher ‖ student) of class logits [b, classes] softened by the temperature, mean over the batch.

    Source: Hinton, Vinyals & Dean 2015; the factor keeps the gradient's scale whatever the temperature.
    """
    ours = jax.nn.log_softmax(student / temperature)
    theirs = jax.nn.log_softmax(teacher / temperature)
    return temperature**2 * jnp.mean(jnp.sum(jnp.exp(theirs) * (theirs - ours), axis=-1))


def apply_tapped(
    network: nn.Module, variables: PyTree, images: Array, taps: Sequence[str], *, train: bool, **keywords: Any
) -> tuple[tuple[Array, Array | None], Mapping[str, PyTree], list[Array]]:
    """A network's answer, the variables that the call changed, and what the modules at `taps` answered, in order."""

    def wanted(module: nn.Module, method: str) -> bool:
        return method == CALL and "/".join(module.path) in taps

    changed = ["batch_stats", "intermediates"] if train else ["intermediates"]
    answer, updated = network.apply(
        variables, images, train=train, mutable=changed, capture_intermediates=wanted, **keywords
    )
    kept: dict[str, Any] = dict(flatten_dict(dict(updated).get("intermediates", {}), sep="/"))
    features = [kept[f"{tap}/{CALL}"][0] for tap in taps]
    return answer, {name: tree for name, tree in updated.items() if name != "intermediates"}, features


def tap_shapes(network: nn.Module, image_shape: tuple[int, int, int]) -> Mapping[str, tuple[int, ...]]:
    """The shapes [h, w, c] of what every module of a network answers for an image, those without one left out."""

    def answers(image: Array) -> PyTree:
        variables = network.init(jax.random.key(0), image, train=False)
        return network.apply(variables, image, train=False, mutable=["intermediates"], capture_intermediates=True)[1]

    image = jax.ShapeDtypeStruct((1, *image_shape), jnp.result_type(float))
    kept: dict[str, Any] = dict(flatten_dict(jax.eval_shape(answers, image)["intermediates"], sep="/"))
    shapes = {name.removesuffix(f"/{CALL}"): value[0] for name, value in kept.items() if name != CALL}
    return {name: one.shape[1:] for name, one in shapes.items() if hasattr(one, "shape") and len(one.shape) == 4}


def check_taps(student: nn.Module, distillation: Distillation, image_shape: tuple[int, int, int]) -> None:
    """Raises UserError for taps that a network does not have, and pairs whose maps differ in size."""
    shapes = [tap_shapes(network, image_shape) for network in (student, distillation.teacher)]
    for pair in distillation.taps:
        for name, known, whose in zip(pair, shapes, ("student", "teacher"), strict=True):
            if name not in known:
                raise unknown(f"tap of the {whose}", name, known)
        ours, theirs = (known[name][:2] for name, known in zip(pair, shapes, strict=True))
        if ours != theirs:
            raise UserError(
                f"the taps {pair[0]!r} and {pair[1]!r} have maps of {ours[0]}x{ours[1]} and {theirs[0]}x{theirs[1]} "
                "pixels; pair modules of one size."
            )
