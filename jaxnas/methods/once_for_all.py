"""Nested networks trained together: progressive shrinking, plain joint training and the sandwich rule.

The options of such a space rise, so that every architecture is a part of the largest. All three methods end in the
same stages of `methods.predicted`, which search with the weights as they are.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxnas.core.errors import UserError
from jaxnas.core.types import Architecture, Array, Key, Metrics, Network, PyTree, Space
from jaxnas.methods.method import Judge, Method, Setup, Stage, Weights, equal_logits, relaxation
from jaxnas.methods.predicted import Prediction, prediction_stages
from jaxnas.methods.shrinking import LARGEST, Kind, Phase, phase_optimizer, shrinking_phases
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
    """What training remembers.

    accuracies: of `named_subnets`. subnets: how many learn in a step, () where it is always as many. teacher: its
    weights, () without one.
    """

    accuracies: Mapping[str, Array]
    subnets: PyTree = ()
    teacher: PyTree = ()


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
    ... and one smaller expansion in each of "width_1", ...: what tells stages apart is what they allow. Every step
    trains uniform subnets of that, at one resolution (see `search.subnets.learn_subnets`). Before each stage of the
    width the network's channels are sorted by importance, so that those of trained widths stay together.

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
    trained = _stages(setup, weights, network, phases, distillation, calibrate)
    return *trained, *prediction_stages(setup, prediction, calibrate)


def joint(
    setup: Setup, weights: Weights, prediction: Prediction, *, subnets: int, distillation: float, calibrate: int
) -> tuple[Stage, ...]:
    """Plain joint training: from the first step on all options are allowed.

    subnets: uniform ones that are trained in a step, at one resolution. distillation: the weight of the answers of the
        largest network as it is in that step; 0: none. calibrate: see `once_for_all`.
    Raises UserError for a space without kernels and expansions.
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
    supernet = Stage("supernet", setup.epochs, _training(setup, learn, network, optimizer, calibrate))
    return supernet, *prediction_stages(setup, prediction, calibrate)


def sandwich(
    setup: Setup, weights: Weights, prediction: Prediction, *, subnets: int, calibrate: int
) -> tuple[Stage, ...]:
    """The sandwich rule with distillation in place (Yu & Huang 2019; BigNAS, Yu et al. 2020).

    Every step trains the largest network, the smallest, and so many uniform `subnets`; see
    `search.subnets.learn_sandwich`. calibrate: see `once_for_all`. Raises UserError for a space without kernels and
    expansions.
    """
    network, optimizer = _nested(setup), weights.optimizer(setup.steps, paths=True)
    sampler = uniform_paths(setup.space)
    learn = learn_sandwich(setup.space, sampler, subnets, network, optimizer, setup.mean)
    supernet = Stage("supernet", setup.epochs, _training(setup, learn, network, optimizer, calibrate))
    return supernet, *prediction_stages(setup, prediction, calibrate)


def _nested(setup: Setup) -> Network:
    """The supernet along single paths; raises UserError where the options of the space are not nested."""
    if not {KERNEL, EXPANSION} <= set(setup.space.shapes):
        raise UserError(
            f"the space {setup.space.name!r} has no kernels and expansions that are parts of larger ones, which this "
            "method needs; take the space 'elastic'."
        )
    return setup.network(paths=1)


def _stages(
    setup: Setup, weights: Weights, network: Network, phases: Sequence[Phase], distillation: float, calibrate: int
) -> list[Stage]:
    """The stages of shrinking. What differs from one to the next is in their states, so that one program serves all.

    Only the first, which has no teacher, has another where the others have one.
    """
    space, most = setup.space, max(phase.subnets for phase in phases)
    room = max(phase.total_epochs for phase in phases)
    teacher = largest_teacher(space, network, lambda state: state.memory.teacher) if distillation else None

    def stage(before: Phase | None, phase: Phase) -> Stage:
        optimizer = phase_optimizer(weights, phase, setup.steps_per_epoch)
        learn = learn_subnets(
            uniform_paths(space),
            most,
            network,
            optimizer,
            setup.mean,
            number=lambda state: state.memory.subnets,
            teacher=None if before is None else teacher,
            distillation=distillation,
        )
        number = jnp.asarray(phase.subnets, jnp.int32)
        method = _training(setup, learn, network, optimizer, calibrate, phase.counts, number)
        enter = None if before is None else _enter(space, network, optimizer, phase, before, distillation > 0)
        return Stage(phase.name, phase.total_epochs, method, enter, room=room)

    return [stage(before, phase) for before, phase in zip((None, *phases), phases, strict=False)]


def _enter(
    space: Space, network: Network, optimizer: Optimizer, phase: Phase, before: Phase, is_taught: bool
) -> Callable[[Key, SearchState], SearchState]:
    """How a stage begins: with the weights of the one before, sorted where it is one of the width.

    is_taught: whether there is a teacher, the weights that the first stage ended with.
    """
    starts_teaching, reorder = is_taught and before.name == LARGEST, network.reorder if phase.sorts else None
    trained = {part: jnp.asarray(mask) for part, mask in largest_options(space, before.counts).items()}
    allowed = largest_options(space, phase.counts)

    def enter(key: Key, state: SearchState) -> SearchState:
        del key
        memory: Taught = state.memory._replace(subnets=jnp.asarray(phase.subnets, jnp.int32))
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
    setup: Setup,
    learn: Update,
    network: Network,
    optimizer: Optimizer,
    calibrate: int,
    counts: Mapping[str, int] = {},
    number: PyTree = (),
) -> Method:
    """Weights that learn, judged by the three named subnets; what would be derived is the largest architecture.

    counts: the options that are allowed, see `largest_options`. number: of subnets that learn, in `Taught`.
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
        memory=Taught({name: jnp.zeros(()) for name in NAMES}, number),
        derive=lambda state: subnets["largest"],
        finish_epoch=finish_epoch,
        warmup_epochs=setup.epochs,
    )
    return method._replace(child=child, predict=None, metrics=metrics, relaxed=None)
