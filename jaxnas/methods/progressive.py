"""P-DARTS: a differentiable search in stages, of which each continues with what the one before it kept."""

import itertools
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp

from jaxnas.core.errors import UserError
from jaxnas.core.types import Architecture, Array, Key, Logits, Space
from jaxnas.estimators.pathwise import pathwise
from jaxnas.methods.method import Arch, Method, Setup, Stage, Weights, bilevel, relaxation, softmax_gates
from jaxnas.relax import categorical
from jaxnas.search.objectives import SearchState, classification
from jaxnas.search.restriction import keep_strongest, restricted_skips
from jaxnas.search.updates import dropping, learn_logits, learn_weights, when
from jaxnas.spaces.cell import nodes_of


def p_darts(
    setup: Setup,
    weights: Weights,
    logits: Arch,
    *,
    stage_layers: tuple[int, ...],
    stage_channels: tuple[int, ...],
    stage_operations: tuple[int, ...],
    stage_dropout: tuple[float, ...],
    warmup_epochs: int,
    skips: int,
    order: int,
    hessian: str,
) -> tuple[Stage, ...]:
    """P-DARTS (Chen et al. 2019): the supernet grows deeper from stage to stage while every edge drops operations.

    stage_layers, stage_channels: cells and initial channels of each stage's supernet. stage_operations: how many
        operations an edge still has in it, those of the largest probability at the end of the stage before.
    stage_dropout: the rate at which identities drop in the beginning of each stage. It falls linearly over the first
        `warmup_epochs` of the stage, in which the weights alone learn, and then by exp(-0.2) each epoch.
    skips: how many identities the derived normal cell keeps at most; the weakest give way to the next best operation.
    order, hessian: as for `darts`.
    The epochs are shared equally by the stages; weights and logits begin anew in each. Raises UserError for lists that
    do not fit one another, the space or the epochs.
    """
    setup.require("layers", "channels")
    lists = {
        "stage_layers": stage_layers,
        "stage_channels": stage_channels,
        "stage_operations": stage_operations,
        "stage_dropout": stage_dropout,
    }
    check_stages(setup, lists, warmup_epochs)
    part = setup._replace(epochs=setup.epochs // len(stage_layers))

    def stage(number: int) -> Method:
        return _p_darts_stage(
            part,
            weights,
            logits,
            sizes={"layers": stage_layers[number], "channels": stage_channels[number]},
            paths=None if stage_operations[number] == stage_operations[0] else stage_operations[number],
            dropout=stage_dropout[number],
            warmup_epochs=warmup_epochs,
            skips=skips,
            order=order,
            hessian=hessian,
        )

    return shrinking_stages(part.epochs, stage_operations, stage)


def shrinking_stages(epochs: int, operations: Sequence[int], build: Callable[[int], Method]) -> tuple[Stage, ...]:
    """Stages of so many epochs each; weights and architecture begin anew, with the operations that are still kept.

    operations: how many every choice keeps in each stage, those of the largest logits at the end of the one before.
    build: number of the stage, from 0 -> its method.
    """

    def stage(number: int) -> Stage:
        method = build(number)

        def enter(key: Key, before: SearchState) -> SearchState:
            kept = keep_strongest(before.visible, operations[number])
            # Where a choice had fewer options than that from the beginning, it does not get others.
            allowed = {part: kept[part] & before.allowed[part] for part in kept}
            return method.init(key)._replace(allowed=allowed)

        return Stage(f"stage_{number + 1}", epochs, method, enter if number else None)

    return tuple(stage(number) for number in range(len(operations)))


def check_stages(setup: Setup, lists: Mapping[str, Sequence[float]], warmup_epochs: int) -> None:
    """Raises UserError where lists of what each stage is do not fit one another, the space or the epochs.

    lists: {name of the setting: an entry for each stage}, among them stage_operations; the first is the measure of the
    others' length.
    """
    (first, entries), *others = lists.items()
    if not entries:
        raise UserError(f"method.{first} is empty, but a search needs at least one stage.")
    for name, values in others:
        if len(values) != len(entries):
            raise UserError(
                f"method.{name} has {len(values)} entries, but method.{first} has {len(entries)}; "
                "every stage needs one in each."
            )
    _check_operations(setup, lists["stage_operations"])
    if setup.epochs % len(entries):
        nearest = max(1, round(setup.epochs / len(entries))) * len(entries)
        raise UserError(
            f"{setup.epochs} epochs cannot be shared equally by {len(entries)} stages; "
            f"the nearest number that can is {nearest}."
        )
    if warmup_epochs >= setup.epochs // len(entries):
        raise UserError(
            f"method.warmup_epochs is {warmup_epochs}, but a stage has {setup.epochs // len(entries)} epochs, "
            "of which at least one has to teach the architecture."
        )


def _check_operations(setup: Setup, operations: Sequence[float]) -> None:
    most = max(options for _, options in setup.space.shapes.values())
    if operations[0] != most:
        raise UserError(
            f"method.stage_operations starts with {operations[0]}, but the edges of this space have {most} operations, "
            "all of which are there in the first stage."
        )
    for number, (before, after) in enumerate(itertools.pairwise(operations), start=2):
        if after > before:
            raise UserError(
                f"method.stage_operations grows from {before} to {after} in stage {number}; operations that were "
                f"dropped do not come back, so take at most {before}."
            )
    if operations[-1] < 2:
        raise UserError("method.stage_operations ends below 2, but an edge needs two operations to choose between.")


def skip_dropout(setup: Setup, start: float, warmup_epochs: int) -> Callable[[Array], Array]:
    """step -> the rate at which identities drop (P-DARTS): falling linearly, then by exp(-0.2) each epoch."""

    def rate(step: Array) -> Array:
        epoch = step // setup.steps_per_epoch
        linear = start * (setup.epochs - epoch - 1) / setup.epochs
        return jnp.where(epoch < warmup_epochs, linear, start * jnp.exp(-0.2 * (epoch - warmup_epochs)))

    return rate


def skip_variants(space: Space, scores: Logits) -> Mapping[str, Architecture]:
    """{"at most n skips": architecture} for every number of identities that a normal cell can have."""
    most = 2 * nodes_of(space)
    return {f"at most {n} skips": restricted_skips(space, scores, n) for n in range(most, -1, -1)}


def _p_darts_stage(
    setup: Setup,
    weights: Weights,
    logits: Arch,
    *,
    sizes: Mapping[str, int],
    paths: int | None,
    dropout: float,
    warmup_epochs: int,
    skips: int,
    order: int,
    hessian: str,
) -> Method:
    network = setup.network(**sizes, paths=paths)
    loss = classification(network)
    sampler = categorical.softmax()
    of_weights = weights.optimizer(setup.steps, paths=paths is not None)
    of_logits = logits.optimizer()
    learn = learn_logits(pathwise(sampler), bilevel(setup, loss, weights, order, hessian), of_logits, setup.mean)

    rate = skip_dropout(setup, dropout, warmup_epochs)

    def derive(state: SearchState) -> Architecture:
        return restricted_skips(setup.space, state.visible, skips)

    updates = (
        when(setup.after(warmup_epochs), learn),
        learn_weights(sampler, loss, of_weights, network.active, setup.mean),
    )
    return relaxation(
        setup,
        *(dropping(rate, update) if dropout else update for update in updates),
        network=network,
        child_network=setup.network(**sizes, paths=1),
        weights=of_weights,
        logits=of_logits,
        branches=paths is not None,
        judged_by=softmax_gates,
        derive=derive,
        variants=lambda state: skip_variants(setup.space, state.visible),
        relaxed=lambda: (network, lambda logits: jax.tree.map(jax.nn.softmax, dict(logits))),
        warmup_epochs=warmup_epochs,
    )
