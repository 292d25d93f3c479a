"""The stages of progressive shrinking, made of their settings: what each allows, for how long, at which rate."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from jaxnas.core.errors import UserError
from jaxnas.core.types import Array, Space
from jaxnas.methods.method import Weights
from jaxnas.search import optimizers
from jaxnas.spaces.elastic import EXPANSION, KERNEL

LARGEST = "largest"  # the first stage


class Phase(NamedTuple):
    """A stage of progressive shrinking.

    counts: {part: how many of its largest options are allowed}; all options of a part that is not there.
    warmup_epochs: those that come before the `epochs`. subnets: trained in a step. sorts: whether channels are sorted
    at its start.
    """

    name: str
    counts: Mapping[str, int]
    epochs: int
    warmup_epochs: int
    learning_rate: float
    subnets: int
    sorts: bool = False

    @property
    def total_epochs(self) -> int:
        """With those of the warm-up."""
        return self.warmup_epochs + self.epochs


class Kind(NamedTuple):
    """What shrinks in one or several stages: the part, the first word of its settings, and these settings.

    All kernels come in one stage; every other option than the largest of another part has a stage of its own.
    """

    part: str
    name: str
    epochs: tuple[int, ...]
    learning_rates: tuple[float, ...]
    subnets: int

    def counts(self, space: Space) -> Sequence[int]:
        """How many options each of its stages allows; none for a part of which the space has no choice."""
        most = int(space.allowed[self.part].sum(axis=1).max()) if self.part in space.allowed else 1
        first = most if self.part == KERNEL else 2
        return range(first, most + 1) if most > 1 else ()


def shrinking_phases(
    space: Space, epochs: int, learning_rate: float, kinds: Sequence[Kind], warmup_epochs: int
) -> tuple[Phase, ...]:
    """The first stage, of so many epochs at that rate, and those of each kind in turn, without those of no epochs.

    Raises UserError for settings that do not fit the number of stages, and where the last one has no epochs.
    """
    counts = {kind.part: 1 for kind in kinds}
    phases = [Phase(LARGEST, dict(counts), epochs, 0, learning_rate, 1)]
    for kind in kinds:
        stages = kind.counts(space)
        _check_settings(space, kind, len(stages))
        for number, count in enumerate(stages):
            counts[kind.part] = count
            phase = Phase(
                name=kind.name if kind.part == KERNEL else f"{kind.name}_{number + 1}",
                counts=dict(counts),
                epochs=kind.epochs[number],
                warmup_epochs=warmup_epochs if count == stages[-1] else 0,
                learning_rate=kind.learning_rates[number],
                subnets=kind.subnets,
                sorts=kind.part == EXPANSION,
            )
            phases.append(phase)
    if not phases[-1].epochs:
        setting = f"{phases[-1].name.partition('_')[0]}_epochs"
        raise UserError(
            f"method.{setting} ends with 0, but the stage {phases[-1].name!r} is the only one that trains all that is "
            "searched; give it at least 1 epoch."
        )
    return tuple(phase for phase in phases if phase.epochs)


def _check_settings(space: Space, kind: Kind, stages: int) -> None:
    """Raises UserError where a kind's settings are not those of so many stages."""
    if kind.part == KERNEL:
        if not stages and any(kind.epochs):
            raise UserError(
                f"method.kernel_epochs is {kind.epochs[0]}, but the space {space.name!r} has no choice between "
                "kernels; set it to 0."
            )
        return
    for name, values in (("epochs", kind.epochs), ("learning_rates", kind.learning_rates)):
        if len(values) != stages:
            raise UserError(
                f"method.{kind.name}_{name} has {len(values)} entries, but the space {space.name!r} has {stages} "
                f"options of {kind.part} beside the largest; give it {stages}, one for the stage of each."
            )


def phase_optimizer(weights: Weights, phase: Phase, steps_per_epoch: int) -> optax.GradientTransformationExtraArgs:
    """That of `weights` for single paths, with a stage's own rate: a linear rise from 0, then a cosine.

    The cosine falls by the same share as that of `weights`. The numbers that tell the schedule of one stage from that
    of another are part of the optimizer's state, and not of the program.
    """

    def sgd(peak: Array, final: Array, rise: Array, fall: Array) -> optax.GradientTransformationExtraArgs:
        def rate(step: ArrayLike) -> Array:
            step = jnp.asarray(step)
            share = (1 + jnp.cos(jnp.pi * jnp.clip((step - rise) / fall, 0, 1))) / 2
            return jnp.where(step < rise, peak * step / jnp.maximum(rise, 1), final + (peak - final) * share)

        return optimizers.sgd(rate, momentum=weights.momentum, weight_decay=weights.weight_decay, clip=weights.clip)

    share = weights.weights_final_learning_rate / weights.weights_learning_rate
    scheduled = optax.inject_hyperparams(sgd, hyperparam_dtype=jnp.float32)(
        peak=phase.learning_rate,
        final=share * phase.learning_rate,
        rise=float(phase.warmup_epochs * steps_per_epoch),
        fall=float(phase.epochs * steps_per_epoch),
    )
    return optimizers.skip_inactive(scheduled)
