"""Nested networks trained together: progressive shrinking, plain joint training and the sandwich rule.

The options of such a space rise, so that every architecture is a part of the largest. All three methods end in the
same stages of `methods.predicted`, which search with the weights as they are.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxnas.core.errors import UserError
from jaxnas.core.types import Architecture, Array, Key, Metrics, Network, PyTree, Space
from jaxnas.methods.method import Judge, Method, Setup, Stage, Weights, equal_logits, relaxation
from jaxnas.methods.predicted import Prediction, prediction_stages
from jaxnas.methods.shrinking import LARGEST, Kind, Phase, shrinking_phases
from jaxnas.search import optimizers
from jaxnas.search.objectives import SearchState
from jaxnas.search.paths import uniform_paths
from jaxnas.search.subnets import (
    NAMES,
    largest_options,
    largest_teacher,
    learn_sandwich,
    learn_subnets,
    named_subnets,
)
from jaxnas.search.updates import Update
from jaxnas.spaces.elastic import DEPTH, EXPANSION, KERNEL
from jaxnas.spaces.space import encode

Optimizer = optax.GradientTransformationExtraArgs


class Taught(NamedTuple):
    """What training remembers: the teacher's weights (() without one), and the accuracies of `named_subnets`."""

    teacher: PyTree
    accuracies: Mapping[str, Array]


def once_for_all(
    setup: Setup,
    weights: Weights,
    prediction: Prediction,
    *,
    kernel_epochs: int,
    depth_epochs: tuple[int, ...],
    width_epochs: tuple[int, ...],
    kernel_learning_rate: float,
    depth_learning_rates: tuple[float, ...],
    width_learning_rates: tuple[float, ...],
    kernel_subnets: int,
    depth_subnets: int,
    width_subnets: int,
    warmup_epochs: int,
    distillation: float,
    calibrate: int,
) -> tuple[Stage, ...]:
    """Once-for-All (Cai et al. 2020): the largest network is trained, then smaller and smaller ones beside it.

    The stage "largest" takes the search's own epochs, with the largest kernels, depths and expansions and any
    resolution. Then all kernels are allowed ("kernel"), one smaller depth in each of the stages "depth_1", "depth_2",
    ... and one smaller expansion in each of "width_1", ...: what a stage allows is all that tells it from others. Every
    step trains uniform subnets of what is allowed, at one resolution (see `search.subnets.learn_subnets`). Before each
    stage of the width the network's channels are sorted by importance, those of trained widths staying together.

    kernel_epochs, depth_epochs, width_epochs: of each of these stages; 0 leaves one out, and the next allows its
        options, too. A part of which the space has no choice has no stages: 0 and ().
    kernel_learning_rate, ...: with which each stage's own cosine begins, by the same share down as that of `weights`.
    kernel_subnets, ...: how many are trained in a step. warmup_epochs: come before the last stage of each kind, while
        the rate rises linearly from 0 (the published code's starts at the rate divided by the number of GPUs).
    distillation: the weight of the answers of the teacher, the largest network as the first stage left it; 0: none.
    calibrate: by how many training images subnets are normalised where they are judged; see `sampled.spos`.
    Raises UserError for a space without nested options, for lists that do not fit its number of options, and where the
    last stage, the only one that trains all options, has no epochs.
    """
    network = _nested(setup)
    if network.reorder is None:
        raise UserError(
            f"the supernet of the space {setup.space.name!r} does not hold narrow networks in the first channels of "
            "wide ones, which method 'once_for_all' needs; take the space 'elastic' and supernet.sharing 'slices'."
        )
    kinds = (
        Kind(KERNEL, "kernel", (kernel_epochs,), (kernel_learning_rate,), kernel_subnets),
        Kind(DEPTH, "depth", depth_epochs, depth_learning_rates, depth_subnets),
        Kind(EXPANSION, "width", width_epochs, width_learning_rates, width_subnets),
    )
    phases = shrinking_phases(setup.space, setup.epochs, weights.weights_learning_rate, kinds, warmup_epochs)
    trained = [
        _phase_stage(setup, weights, network, phase, before, distillation, calibrate)
        for before, phase in zip((None, *phases), phases, strict=False)
    ]
    return *trained, *prediction_stages(setup, prediction, calibrate)


def joint(
    setup: Setup, weights: Weights, prediction: Prediction, *, subnets: int, distillation: float, calibrate: int
) -> tuple[Stage, ...]:
    """Plain joint training: from the first step on all options are allowed.

    subnets: uniform ones that are trained in a step, at one resolution. distillation: the weight of the answers of the
        largest network as it is in that step; 0: none. calibrate: see `once_for_all`.
    Raises UserError for a space without nested options.
    """
    network, optimizer = _nested(setup), weights.optimizer(setup.steps, paths=True)
    teacher = largest_teacher(setup.space, network, lambda state: state.params) if distillation else None
    learn = learn_subnets(
        uniform_paths(setup.space),
        subnets,
        network,
        optimizer,
        setup.mean,
        teacher=teacher,
        distillation=distillation,
    )
    supernet = Stage("supernet", setup.epochs, _training(setup, learn, network, optimizer, {}, calibrate))
    return supernet, *prediction_stages(setup, prediction, calibrate)


def sandwich(
    setup: Setup, weights: Weights, prediction: Prediction, *, subnets: int, calibrate: int
) -> tuple[Stage, ...]:
    """The sandwich rule with distillation in place (Yu & Huang 2019; BigNAS, Yu et al. 2020).

    Every step trains the largest network, the smallest, and so many uniform `subnets`; see
    `search.subnets.learn_sandwich`. calibrate: see `once_for_all`. Raises UserError for a space without nested options.
    """
    network, optimizer = _nested(setup), weights.optimizer(setup.steps, paths=True)
    sampler = uniform_paths(setup.space)
    learn = learn_sandwich(setup.space, sampler, subnets, network, optimizer, setup.mean)
    supernet = Stage("supernet", setup.epochs, _training(setup, learn, network, optimizer, {}, calibrate))
    return supernet, *prediction_stages(setup, prediction, calibrate)


def _nested(setup: Setup) -> Network:
    """The supernet along single paths; raises UserError where the options of the space are not nested."""
    if not {KERNEL, EXPANSION} <= set(setup.space.shapes):
        raise UserError(
            f"the space {setup.space.name!r} has no kernels and expansions that are parts of larger ones, which this "
            "method needs; take the space 'elastic'."
        )
    return setup.network(paths=1)


def _phase_stage(
    setup: Setup,
    weights: Weights,
    network: Network,
    phase: Phase,
    before: Phase | None,
    distillation: float,
    calibrate: int,
) -> Stage:
    """A stage of shrinking; before: the one before it, None for the first, which has no teacher."""
    space = setup.space
    teacher = largest_teacher(space, network, lambda state: state.memory.teacher) if before and distillation else None
    optimizer = _optimizer(setup, weights, phase)
    learn = learn_subnets(
        uniform_paths(space),
        phase.subnets,
        network,
        optimizer,
        setup.mean,
        teacher=teacher,
        distillation=distillation,
    )
    method = _training(setup, learn, network, optimizer, phase.counts, calibrate)
    epochs = phase.warmup_epochs + phase.epochs
    enter = None if before is None else _enter(space, network, optimizer, phase, before, keep=distillation > 0)
    return Stage(phase.name, epochs, method, enter)


def _optimizer(setup: Setup, weights: Weights, phase: Phase) -> Optimizer:
    """That of `weights`, with the rate of a stage: a linear rise from 0, if any, and then its own cosine."""
    share = phase.learning_rate / weights.weights_learning_rate
    weights = weights._replace(
        weights_learning_rate=phase.learning_rate,
        weights_final_learning_rate=share * weights.weights_final_learning_rate,
    )
    steps, warmup = (count * setup.steps_per_epoch for count in (phase.epochs, phase.warmup_epochs))
    if not warmup:
        return weights.optimizer(steps, paths=True)
    rise = optax.linear_schedule(0.0, phase.learning_rate, warmup)
    schedule = optax.join_schedules([rise, weights.rate(steps)], [warmup])
    return optimizers.skip_inactive(
        optimizers.sgd(schedule, momentum=weights.momentum, weight_decay=weights.weight_decay, clip=weights.clip)
    )


def _enter(
    space: Space, network: Network, optimizer: Optimizer, phase: Phase, before: Phase, *, keep: bool
) -> Callable[[Key, SearchState], SearchState]:
    """How a stage begins: with the weights of the one before, sorted where it is one of the width.

    keep: whether there is a teacher, the weights that the first stage ended with.
    """
    starts_teaching, reorder = keep and before.name == LARGEST, network.reorder if phase.sorts else None
    trained = {part: jnp.asarray(mask) for part, mask in largest_options(space, before.counts).items()}
    allowed = largest_options(space, phase.counts)

    def enter(key: Key, state: SearchState) -> SearchState:
        del key
        memory: Taught = state.memory
        if starts_teaching:
            memory = memory._replace(teacher=state.params)
        params = state.params if reorder is None else reorder(state.params, trained)
        return state._replace(
            step=jnp.zeros((), jnp.int32),
            params=params,
            weights_state=optimizer.init(params),
            allowed={part: jnp.asarray(mask) for part, mask in allowed.items()},
            memory=memory,
        )

    return enter


def _training(
    setup: Setup, learn: Update, network: Network, optimizer: Optimizer, counts: Mapping[str, int], calibrate: int
) -> Method:
    """Weights that learn under what `counts` allows (see `largest_options`), judged by the three named subnets.

    What it would derive is the largest architecture.
    """
    space, subnets = setup.space, named_subnets(setup.space)
    if calibrate:
        setup.require("calibrate")

    def child(state: SearchState, architecture: Architecture, images: Array, calibrate: int = 0) -> Array:
        own = setup.network(paths=1, calibrate=calibrate) if calibrate else network
        return own.apply(state.params, encode(space, architecture), images)

    def finish_epoch(
        key: Key, state: SearchState, epoch: Array, accuracy: Array, judge: Judge
    ) -> tuple[SearchState, Array]:
        del key, epoch, accuracy
        stacked = {part: jnp.stack([subnets[name][part] for name in NAMES]) for part in space.shapes}
        found = jax.lax.map(lambda one: judge(one, calibrate=calibrate), stacked)
        accuracies = dict(zip(NAMES, found, strict=True))
        return state._replace(memory=state.memory._replace(accuracies=accuracies)), accuracies["largest"]

    def metrics(state: SearchState) -> Metrics:
        return {f"accuracy/{name}": value for name, value in state.memory.accuracies.items()}

    method = relaxation(
        setup,
        learn,
        network=network,
        child_network=network,
        weights=optimizer,
        logits=optax.with_extra_args_support(optax.set_to_zero()),
        branches=True,
        initial=lambda key: equal_logits(space),
        allowed=largest_options(space, counts),
        memory=Taught((), {name: jnp.zeros(()) for name in NAMES}),
        derive=lambda state: subnets["largest"],
        finish_epoch=finish_epoch,
        warmup_epochs=setup.epochs,
    )
    return method._replace(child=child, predict=None, metrics=metrics, relaxed=None)
