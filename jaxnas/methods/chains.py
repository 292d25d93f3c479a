"""Searches that were proposed for chains of blocks. They run on every space unless they say otherwise."""

import jax
import jax.numpy as jnp
import optax

from jaxnas.core.errors import UserError, choose
from jaxnas.estimators.pathwise import pathwise
from jaxnas.methods.method import (
    Arch,
    Method,
    Setup,
    Weights,
    best_drawn,
    bilevel,
    equal_logits,
    no_candidates,
    relaxation,
    softmax_gates,
)
from jaxnas.relax import categorical
from jaxnas.search.distribution import dominance, no_tallies, tally
from jaxnas.search.objectives import SearchState, classification
from jaxnas.search.updates import keep_pair_probability, learn_logits, learn_together, learn_weights, when


def proxylessnas(
    setup: Setup,
    weights: Weights,
    logits: Arch,
    *,
    gates: str,
    warmup_epochs: int,
    every: int,
    order: int,
    hessian: str,
) -> Method:
    """ProxylessNAS-G (Cai, Zhu & Han 2019): binary gates; the weights learn along one sampled path at a time.

    gates: how the logits get their gradient, "full" (the outputs of all candidates are kept), "recompute" (they are
        computed again going back: the same gradient in less memory) or "two_path" (two candidates are sampled, and only
        they learn, with the probabilities of the others kept).
    warmup_epochs: epochs in which the weights alone learn. every: steps of the weights for one of the logits.
    order, hessian: as for `darts`.
    """
    full = categorical.multinomial_straight_through()
    kinds = {
        "full": (full, {"recompute": False}, None),
        "recompute": (full, {"recompute": True}, None),
        "two_path": (categorical.two_paths(), {"paths": 2}, keep_pair_probability),
    }
    sampler, evaluation, settle = choose("gates", gates, kinds)
    single = setup.network(paths=1)
    objective = bilevel(setup, classification(setup.network(**evaluation)), weights, order, hessian)
    of_weights, of_logits = weights.optimizer(setup.steps, paths=True), logits.optimizer(b1=0.0)
    learn = learn_logits(pathwise(sampler), objective, of_logits, setup.mean, settle)
    return relaxation(
        setup,
        learn_weights(full, classification(single), of_weights, single.active, setup.mean),
        when(setup.after(warmup_epochs, every), learn),
        network=single,
        child_network=single,
        weights=of_weights,
        logits=of_logits,
        branches=True,
        initial=lambda key: equal_logits(setup.space),
        warmup_epochs=warmup_epochs,
    )


def fbnet(
    setup: Setup,
    weights: Weights,
    logits: Arch,
    *,
    temperature: float,
    final_temperature: float,
    warmup_epochs: int,
    candidates: int,
    order: int,
    hessian: str,
) -> Method:
    """FBNet (Wu et al. 2019): relaxed one-hot gates at a falling temperature, the cost in the loss of the architecture.

    temperature, final_temperature: of the Gumbel-softmax, falling by the same factor in every step. warmup_epochs: in
    which the weights alone learn. candidates: architectures drawn from the distribution that was learned, at the end of
    the last epoch; the best on the validation half with the shared weights is derived. order, hessian: as for `darts`.
    """
    sampler = categorical.gumbel_softmax(
        categorical.exponential_temperature(temperature, final_temperature, setup.steps)
    )
    method = _gumbel_bilevel(setup, weights, logits, sampler, warmup_epochs, order, hessian)
    space = setup.space

    def draw_candidates(key, state, epoch, accuracy, judge):
        def one(key):
            noise = categorical.gumbel_softmax(lambda count: 1.0)(key, state.visible, state.step)
            return space.decode(jax.tree.map(jnp.log, noise.gates))

        memory = jax.lax.cond(
            epoch == setup.epochs - 1, lambda: best_drawn(setup, key, candidates, one, judge), lambda: state.memory
        )
        return state._replace(memory=memory), jnp.where(memory.accuracy < 0, accuracy, memory.accuracy)

    def derive(state):
        decoded = space.decode(state.visible)
        return jax.tree.map(lambda a, b: jnp.where(state.memory.accuracy < 0, a, b), decoded, state.memory.best)

    return method._replace(
        init=lambda key: method.init(key)._replace(memory=no_candidates(space)),
        finish_epoch=draw_candidates,
        derive=derive,
    )


def fbnet_v2(
    setup: Setup,
    weights: Weights,
    logits: Arch,
    *,
    temperature: float,
    final_temperature: float,
    warmup_epochs: int,
    order: int,
    hessian: str,
) -> Method:
    """FBNetV2 (Wan et al. 2020): FBNet's search over masks of shared weights, deriving the most probable options.

    On a space of superkernels the gates weigh masks of kernels and channels, so that all widths cost one network.
    Settings as for `fbnet`.
    """
    sampler = categorical.gumbel_softmax(
        categorical.exponential_temperature(temperature, final_temperature, setup.steps)
    )
    return _gumbel_bilevel(setup, weights, logits, sampler, warmup_epochs, order, hessian)


def _gumbel_bilevel(setup, weights, logits, sampler, warmup_epochs, order, hessian) -> Method:
    network = setup.network()
    loss = classification(network)
    of_weights, of_logits = weights.optimizer(setup.steps, paths=False), logits.optimizer()
    learn = learn_logits(pathwise(sampler), bilevel(setup, loss, weights, order, hessian), of_logits, setup.mean)
    return relaxation(
        setup,
        when(setup.after(warmup_epochs), learn),
        learn_weights(sampler, loss, of_weights, network.active, setup.mean),
        network=network,
        child_network=setup.network(paths=1),
        weights=of_weights,
        logits=of_logits,
        branches=False,
        judged_by=softmax_gates,
        warmup_epochs=warmup_epochs,
    )


def single_path(setup: Setup, weights: Weights, logits: Arch) -> Method:
    """Single-Path NAS (Stamoulis et al. 2019): an option runs where the weights that it adds exceed a threshold.

    The architecture parameters are thresholds of squared norms of weights; they and the weights learn together on one
    loss, the decisions with a sigmoid's derivative. The thresholds start 1 below the norms, so that all options are
    reached and the sigmoid has a slope; the paper's start at 0 is 15 below for a ring of a usual kernel.
    Raises UserError for a space whose options share no weights.
    """
    network = setup.network()
    importance = network.importance
    if importance is None:
        raise UserError(
            f"the options of the space {setup.space.name!r} share no weights, which the method 'single_path' compares "
            "with its thresholds; take the space 'superkernel'."
        )
    sampler = categorical.ordered_threshold()
    of_weights, of_logits = weights.optimizer(setup.steps, paths=False), logits.optimizer()

    def margins(params, thresholds):
        norms = importance(params)
        return {part: norms[part] - values for part, values in thresholds.items()}

    def decisions(state: SearchState):
        values = categorical.masked(margins(state.params, state.logits), state.allowed)
        return sampler(jax.random.key(0), values, state.step).gates  # draws nothing

    def probabilities(state: SearchState):
        values = categorical.masked(margins(state.params, state.logits), state.allowed)
        return jax.tree.map(categorical.ordered_probabilities, values)

    method = relaxation(
        setup,
        learn_together(
            sampler,
            setup.priced(classification(network)),
            of_weights,
            of_logits,
            network.active,
            setup.mean,
            logits_of=margins,
        ),
        network=network,
        child_network=network,
        weights=of_weights,
        logits=of_logits,
        branches=False,
        initial=lambda key: equal_logits(setup.space),
        judged_by=decisions,
        probabilities=probabilities,
        derive=lambda state: setup.space.decode(decisions(state)),
        scores=lambda state: jax.tree.map(lambda chances: jnp.log(jnp.maximum(chances, 1e-30)), probabilities(state)),
    )

    def init(key):
        state = method.init(key)
        return state._replace(logits=jax.tree.map(lambda norm: norm - 1.0, dict(importance(state.params))))

    return method._replace(init=init, relaxed=None)  # its decisions are no mixture


def mdenas(setup: Setup, weights: Weights, *, distribution_learning_rate: float, warmup_epochs: int) -> Method:
    """MDENAS (Zheng et al. 2019): options that were trained less and yet do better become more probable.

    One path is drawn in every step. At the end of an epoch every two options of a choice are compared by how often they
    were drawn and by the validation accuracy with them; one comparison moves a logit by distribution_learning_rate.
    warmup_epochs: in which the weights alone learn. The method has no gradient of the architecture.
    """
    network = setup.network(paths=1)
    loss = classification(network)
    sampler = categorical.multinomial_straight_through()
    of_weights = weights.optimizer(setup.steps, paths=True)
    learn = learn_weights(sampler, loss, of_weights, network.active, setup.mean)
    setup.after(warmup_epochs)

    def compare(key, state, epoch, accuracy, judge):
        del key, judge
        moves = dominance(state.memory, state.allowed)
        learned = {part: v + distribution_learning_rate * moves[part] for part, v in state.logits.items()}
        logits = jax.tree.map(lambda new, old: jnp.where(epoch >= warmup_epochs, new, old), learned, state.logits)
        memory = no_tallies(setup.space)._replace(trained=state.memory.trained)
        return state._replace(logits=logits, memory=memory), accuracy

    return relaxation(
        setup,
        tally(learn, sampler, loss, setup.mean),
        network=network,
        child_network=network,
        weights=of_weights,
        logits=optax.with_extra_args_support(optax.set_to_zero()),  # the epochs' ends move the logits
        branches=True,
        initial=lambda key: equal_logits(setup.space),
        memory=no_tallies(setup.space),
        finish_epoch=compare,
        warmup_epochs=warmup_epochs,
    )
