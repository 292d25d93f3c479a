"""Differentiable searches that were proposed for cells. They run on every space unless they say what they need."""

import itertools
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.core.errors import UserError, choose
from jaxnas.core.types import Architecture, Array, Key
from jaxnas.estimators.pathwise import pathwise
from jaxnas.estimators.score import score_function
from jaxnas.methods.method import (
    Arch,
    Method,
    Setup,
    Stage,
    Weights,
    bilevel,
    initial_logits,
    relaxation,
    softmax_gates,
)
from jaxnas.relax import categorical
from jaxnas.search.objectives import SearchState, classification
from jaxnas.search.restriction import keep_strongest, restricted_skips
from jaxnas.search.updates import dropping, learn_logits, learn_together, learn_weights, when
from jaxnas.spaces.cell import PARTS, cell_edges


def darts(setup: Setup, weights: Weights, logits: Arch, *, order: int, hessian: str) -> Method:
    """DARTS (Liu, Simonyan & Yang 2019): softmax mixtures, architecture and weights updated in turn.

    order: 1 (the validation loss at the present weights) or 2 (after one unrolled step of the weights).
    hessian: for order 2, "autodiff" or "finite_differences".
    """
    network = setup.network()
    loss = classification(network)
    sampler = categorical.softmax()
    of_weights, of_logits = weights.optimizer(setup.steps, paths=False), logits.optimizer()
    return relaxation(
        setup,
        learn_logits(pathwise(sampler), bilevel(setup, loss, weights, order, hessian), of_logits, setup.mean),
        learn_weights(sampler, loss, of_weights, network.active, setup.mean),
        network=network,
        child_network=setup.network(paths=1),
        weights=of_weights,
        logits=of_logits,
        branches=False,
        judged_by=softmax_gates,
    )


def gdas(
    setup: Setup,
    weights: Weights,
    logits: Arch,
    *,
    draw: str,
    temperature: float,
    final_temperature: float,
    bare_gates: bool,
    order: int,
    hessian: str,
) -> Method:
    """GDAS (Dong & Yang 2019): one operation per edge runs, drawn anew in every step, with a straight-through gradient.

    draw: "gumbel" as published, with a temperature that falls linearly, or "multinomial", which has no temperature.
    bare_gates: give unselected gates the gradient of the published code, which adds them bare to the node, or none.
    order, hessian: as for `darts`. Weights that were not drawn keep their value and their momentum in that step.
    """
    annealed = categorical.linear_temperature(temperature, final_temperature, setup.steps)
    samplers = {
        "gumbel": categorical.gumbel_straight_through(annealed),
        "multinomial": categorical.multinomial_straight_through(),
    }
    sampler = choose("draw", draw, samplers)
    network = setup.network(paths=1, bare_gates=bare_gates)
    loss = classification(network)
    of_weights, of_logits = weights.optimizer(setup.steps, paths=True), logits.optimizer()
    return relaxation(
        setup,
        learn_weights(sampler, loss, of_weights, network.active, setup.mean),
        learn_logits(pathwise(sampler), bilevel(setup, loss, weights, order, hessian), of_logits, setup.mean),
        network=network,
        child_network=network,
        weights=of_weights,
        logits=of_logits,
        branches=True,
    )


def snas(
    setup: Setup,
    weights: Weights,
    logits: Arch,
    *,
    temperature: float,
    final_temperature: float,
    credit: str,
    samples: int,
) -> Method:
    """SNAS (Xie et al. 2019): relaxed one-hot gates, weights and architecture learned together on one loss.

    temperature, final_temperature: of the Gumbel-softmax, falling linearly. credit: how the cost reaches the logits,
    "pathwise" (differentiated, with the loss) or "score" (REINFORCE over `samples` draws of the cost alone).
    """
    network = setup.network()
    loss = classification(network)
    sampler = categorical.gumbel_softmax(categorical.linear_temperature(temperature, final_temperature, setup.steps))
    of_weights, of_logits = weights.optimizer(setup.steps, paths=False), logits.optimizer()
    scored = choose("credit", credit, {"pathwise": False, "score": setup.cost is not None})
    if scored and setup.multiplied:
        raise UserError(
            "method.credit is 'score', which needs a penalty that is added to the loss (linear, relative or above), "
            "because the cost gets its gradient apart from it."
        )
    hard = categorical.multinomial_straight_through()  # what an architecture costs, not what a mixture does
    return relaxation(
        setup,
        learn_together(
            sampler,
            loss if scored else setup.priced(loss),
            of_weights,
            of_logits,
            network.active,
            setup.mean,
            credited=score_function(hard, samples=samples) if scored else None,
            cost=setup.price,
        ),
        network=network,
        child_network=setup.network(paths=1),
        weights=of_weights,
        logits=of_logits,
        branches=False,
        judged_by=softmax_gates,
    )


def dsnas(setup: Setup, weights: Weights, logits: Arch, *, fix_above: float) -> Method:
    """DSNAS (Hu et al. 2020): one path, learned together with its weights; the child needs no retraining.

    fix_above: an option whose probability exceeds this at the end of an epoch is kept for good, the others of its
    choice are dropped ("early fixing"); 1 for never.
    """
    network = setup.network(paths=1)
    sampler = categorical.log_prob_straight_through()
    of_weights, of_logits = weights.optimizer(setup.steps, paths=True), logits.optimizer()

    def fix(key, state, epoch, accuracy, judge):
        del key, epoch, judge
        sure = {part: values > fix_above for part, values in softmax_gates(state).items()}
        allowed = {
            part: jnp.where(jnp.any(of, axis=-1, keepdims=True), of, state.allowed[part]) for part, of in sure.items()
        }
        return state._replace(allowed=allowed), accuracy

    return relaxation(
        setup,
        learn_together(
            sampler, setup.priced(classification(network)), of_weights, of_logits, network.active, setup.mean
        ),
        network=network,
        child_network=network,
        weights=of_weights,
        logits=of_logits,
        branches=True,
        finish_epoch=fix,
    )


def pc_darts(
    setup: Setup, weights: Weights, logits: Arch, *, partial: int, warmup_epochs: int, order: int, hessian: str
) -> Method:
    """PC-DARTS (Xu et al. 2020): 1/`partial` of the channels pass the mixture, and edges into a node share a softmax.

    warmup_epochs: epochs in which the weights alone learn. order, hessian: as for `darts`. On spaces other than cells
    there are no edges to normalise, and no channels to pass by either (UserError).
    """
    network = setup.network(partial=partial)
    nodes = _nodes_of(setup)
    edges = cell_edges(nodes)
    weighing = {part: f"{part}_sources" for part in PARTS}
    sources = np.asarray([[source < node + 2 for source in range(nodes + 1)] for node in range(nodes)])
    sampler = categorical.edge_normalized(
        categorical.softmax(), {part: (name, edges) for part, name in weighing.items()}
    )
    shapes = {**setup.space.shapes, **dict.fromkeys(weighing.values(), sources.shape)}
    loss = classification(network)
    of_weights, of_logits = weights.optimizer(setup.steps, paths=False), logits.optimizer()
    learn = learn_logits(pathwise(sampler), bilevel(setup, loss, weights, order, hessian), of_logits, setup.mean)

    def gates_of(logits):
        return sampler(jax.random.key(0), logits, jnp.zeros((), jnp.int32)).gates  # draws nothing

    def mixture(state):
        return gates_of(state.visible)

    return relaxation(
        setup,
        when(setup.after(warmup_epochs), learn),
        learn_weights(sampler, loss, of_weights, network.active, setup.mean),
        network=network,
        child_network=setup.network(partial=partial, paths=1),
        weights=of_weights,
        logits=of_logits,
        branches=False,
        judged_by=mixture,
        initial=lambda key: initial_logits(shapes, key),
        allowed=dict.fromkeys(weighing.values(), sources),
        probabilities=lambda state: {part: softmax_gates(state)[part] for part in PARTS},
        derive=lambda state: setup.space.best(mixture(state)),
        scores=lambda state: jax.tree.map(jnp.log, dict(mixture(state))),
        relaxed=lambda: (network, gates_of),
        warmup_epochs=warmup_epochs,
    )


def _nodes_of(setup: Setup) -> int:
    """Nodes of a space of two cells: `nodes` nodes have nodes · (nodes + 3) / 2 edges."""
    edges = setup.space.shapes[PARTS[0]][0]
    return next(nodes for nodes in range(1, edges + 1) if nodes * (nodes + 3) // 2 == edges)


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
        most = 2 * _nodes_of(setup)
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
