"""P-DARTS: a differentiable search in stages, of which each continues with what the one before it kept."""

import itertools
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from jaxnas.core.errors import UserError
from jaxnas.core.types import Architecture, Array, Key
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
    _check_stages(setup, stage_layers, stage_channels, stage_operations, stage_dropout, warmup_epochs)
    part = setup._replace(epochs=setup.epochs // len(stage_layers))
    most = stage_operations[0]

    def stage(number: int) -> Stage:
        kept = stage_operations[number]
        method = _p_darts_stage(
            part,
            weights,
            logits,
            sizes={"layers": stage_layers[number], "channels": stage_channels[number]},
            paths=None if kept == most else kept,
            dropout=stage_dropout[number],
            warmup_epochs=warmup_epochs,
            skips=skips,
            order=order,
            hessian=hessian,
        )

        def enter(key: Key, before: SearchState) -> SearchState:
            return method.init(key)._replace(allowed=keep_strongest(before.visible, kept))

        return Stage(f"stage_{number + 1}", part.epochs, method, enter if number else None)

    return tuple(stage(number) for number in range(len(stage_layers)))


def _check_stages(
    setup: Setup,
    layers: tuple[int, ...],
    channels: tuple[int, ...],
    operations: tuple[int, ...],
    dropout: tuple[float, ...],
    warmup_epochs: int,
) -> None:
    lists = {
        "stage_layers": layers,
        "stage_channels": channels,
        "stage_operations": operations,
        "stage_dropout": dropout,
    }
    if not layers:
        raise UserError("method.stage_layers is empty, but a search needs at least one stage.")
    for name, values in lists.items():
        if len(values) != len(layers):
            raise UserError(
                f"method.{name} has {len(values)} entries, but method.stage_layers has {len(layers)}; "
                "every stage needs one in each."
            )
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
    if setup.epochs % len(layers):
        nearest = max(1, round(setup.epochs / len(layers))) * len(layers)
        raise UserError(
            f"{setup.epochs} epochs cannot be shared equally by {len(layers)} stages; "
            f"the nearest number that can is {nearest}."
        )
    if warmup_epochs >= setup.epochs // len(layers):
        raise UserError(
            f"method.warmup_epochs is {warmup_epochs}, but a stage has {setup.epochs // len(layers)} epochs, "
            "of which at least one has to teach the architecture."
        )


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

    def rate(step: Array) -> Array:
        epoch = step // setup.steps_per_epoch
        linear = dropout * (setup.epochs - epoch - 1) / setup.epochs
        return jnp.where(epoch < warmup_epochs, linear, dropout * jnp.exp(-0.2 * (epoch - warmup_epochs)))

    def derive(state: SearchState) -> Architecture:
        return restricted_skips(setup.space, state.visible, skips)

    def variants(state: SearchState) -> Mapping[str, Architecture]:
        most = 2 * nodes_of(setup.space)
        return {f"at most {n} skips": restricted_skips(setup.space, state.visible, n) for n in range(most, -1, -1)}

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
        variants=variants,
        relaxed=lambda: (network, lambda logits: jax.tree.map(jax.nn.softmax, dict(logits))),
        warmup_epochs=warmup_epochs,
    )
