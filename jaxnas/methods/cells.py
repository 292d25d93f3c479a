"""Differentiable searches that were proposed for cells. They run on every space unless they say what they need."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.core.errors import UserError, choose
from jaxnas.estimators.pathwise import pathwise
from jaxnas.estimators.score import score_function
from jaxnas.methods.method import (
    Arch,
    Method,
    Setup,
    Weights,
    bilevel,
    initial_logits,
    relaxation,
    softmax_gates,
)
from jaxnas.relax import categorical
from jaxnas.search.objectives import classification
from jaxnas.search.updates import learn_logits, learn_together, learn_weights, when
from jaxnas.spaces.cell import PARTS, cell_edges, nodes_of


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
    nodes = nodes_of(setup.space)
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
