"""Searches in which a policy proposes paths through shared weights and learns from what they earn alone."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import optax

from jaxnas.core.types import Architecture, Array, Key, Network, PyTree
from jaxnas.methods.method import Arch, Judge, Method, Setup, Weights, best_drawn, relaxation
from jaxnas.methods.policy_updates import (
    Experience,
    Learning,
    PolicyOf,
    Regulariser,
    learn_policy,
    learn_weights_along,
    no_experience,
)
from jaxnas.search.objectives import SearchState, classification
from jaxnas.search.reward import shared_weights_reward
from jaxnas.search.updates import Update, when
from jaxnas.strategies.policy import Code, Policy, decoded, factorised
from jaxnas.strategies.recurrent import recurrent

SKIPS = "skips"  # the part whose second option is a connection past other layers


def enas(
    setup: Setup,
    weights: Weights,
    logits: Arch,
    *,
    hidden: int,
    temperature: float,
    tanh_constant: float,
    entropy_weight: float,
    skip_weight: float,
    skip_target: float,
    baseline_decay: float,
    samples: int,
    every: int,
    candidates: int,
) -> Method:
    """ENAS (Pham et al. 2018): a recurrent controller samples paths of a shared network, and learns from their rewards.

    hidden, temperature, tanh_constant: of the controller, see `strategies.recurrent`. entropy_weight, baseline_decay:
    of its gradient. skip_weight, skip_target: the weight of the divergence of the chance of a skip connection from a
    target, in spaces whose part "skips" chooses them. samples: paths of a step of the controller, one in every so many
    steps of the weights (`every`), where the paper alternates epochs. candidates: drawn from the controller at the end
    of the last epoch; the best on the validation half with the shared weights is derived.
    The reward is the accuracy, or what the penalty for rewards makes of it and the cost. In cells a path has an
    operation on every edge, `none` among them, where ENAS chooses two inputs of every node.
    """
    space, last = setup.space, setup.epochs - 1
    settings = {"hidden": hidden, "temperature": temperature, "tanh_constant": tanh_constant}
    learning = Learning(samples, entropy_weight=entropy_weight, baseline_decay=baseline_decay)

    def policy_of(allowed: Mapping[str, Array]) -> Policy:
        return recurrent(space, **settings, allowed=allowed)

    def draw_candidates(
        key: Key, state: SearchState, epoch: Array, accuracy: Array, judge: Judge
    ) -> tuple[SearchState, Array]:
        policy = policy_of(state.allowed)
        marginals = policy.probabilities(state.logits)

        def one(key: Key) -> Architecture:
            return decoded(space, policy.sample(key, state.logits), marginals)

        memory: Experience = state.memory
        found = jax.lax.cond(
            epoch == last, lambda: best_drawn(setup, key, candidates, one, judge), lambda: memory.found
        )
        searched = jnp.where(found.accuracy < 0, accuracy, found.accuracy)
        return state._replace(memory=memory._replace(found=found)), searched

    def derive(state: SearchState) -> Architecture:
        greedy, found = space.decode(_log_probabilities(policy_of, state)), state.memory.found
        return jax.tree.map(lambda own, drawn: jnp.where(found.accuracy < 0, own, drawn), greedy, found.best)

    method = policy_method(
        setup,
        weights,
        logits.optimizer(b1=0.0),
        policy_of,
        learning,
        lambda policy, train: (train, when(setup.after(0, every), policy)),
        regulariser=skip_divergence(skip_weight, skip_target) if skip_weight and SKIPS in space.shapes else None,
        derive=derive,
        finish_epoch=draw_candidates,
    )
    return method._replace(relaxed=None)  # its gates depend on those before them


def proxylessnas_r(
    setup: Setup, weights: Weights, logits: Arch, *, samples: int, every: int, warmup_epochs: int, baseline_decay: float
) -> Method:
    """ProxylessNAS-R (Cai, Zhu & Han 2019, section 3.3): independent choices that learn by REINFORCE.

    The reward is accuracy · (cost / target)^exponent through the penalty for rewards, the accuracy without a cost.
    samples: paths of a step of the logits, one in every so many steps of the weights (`every`). warmup_epochs: in which
    the weights alone learn, along random paths. baseline_decay: of the moving average that rewards are compared with.
    """
    return policy_method(
        setup,
        weights,
        logits.optimizer(b1=0.0),
        lambda allowed: factorised(setup.space, allowed),
        Learning(samples, baseline_decay=baseline_decay),
        lambda policy, train: (train, when(setup.after(warmup_epochs, every), policy)),
        warmup_epochs=warmup_epochs,
    )


def skip_divergence(weight: float, target: float, part: str = SKIPS) -> Regulariser:
    """weight · KL(chance of a connection ‖ target), the mean over choices and codes (Pham et al. 2018, section 3.2).

    The chances are those that the decisions before them leave; the part's two options are no connection, and one.
    """

    def divergence(policy: Policy, parameters: PyTree, codes: Code) -> Array:
        taken = jax.vmap(lambda code: policy.log_probs(parameters, code)[part])(codes)
        chance = jnp.where(codes[part] == 1, jnp.exp(taken), -jnp.expm1(taken))
        chance = jnp.clip(chance, 1e-6, 1 - 1e-6)  # a certain decision has no logarithm of its opposite
        terms = chance * jnp.log(chance / target) + (1 - chance) * jnp.log((1 - chance) / (1 - target))
        return weight * jnp.mean(terms)

    return divergence


def policy_method(
    setup: Setup,
    weights: Weights,
    optimizer: optax.GradientTransformationExtraArgs,
    policy_of: PolicyOf,
    learning: Learning,
    schedule: Callable[[Update, Update], tuple[Update, ...]],
    *,
    network: Network | None = None,
    price: Callable[[Array, Array], Array] | None = None,
    code_of: Callable[[Key, SearchState], Code] | None = None,
    weight_epochs: int | None = None,
    initial: Callable[[Key], PyTree] | None = None,
    regulariser: Regulariser | None = None,
    derive: Callable[[SearchState], Architecture] | None = None,
    variants: Callable[[SearchState], Mapping[str, Architecture]] | None = None,
    finish_epoch: Callable[[Key, SearchState, Array, Array, Judge], tuple[SearchState, Array]] | None = None,
    warmup_epochs: int = 0,
) -> Method:
    """A method whose logits are the parameters of a policy.

    optimizer: of the policy. schedule: (update of the policy, update of the weights) -> what a step does, in turn.
    network: the supernet running single paths, None for the space's own. price: what makes a reward of accuracy and
    cost, None for the setup's penalty. code_of: draws the path that the weights learn along; None for the policy.
    weight_epochs: in how many epochs the weights learn, during which their rate falls; None for all.
    initial: key -> parameters, None for the policy's own.
    The others are those of `relaxation` and `learn_policy`.
    """
    single = setup.network(paths=1) if network is None else network
    epochs = setup.epochs if weight_epochs is None else weight_epochs
    of_weights = weights.optimizer(epochs * setup.steps_per_epoch, paths=True)
    everything = policy_of({part: jnp.asarray(mask) for part, mask in setup.space.allowed.items()})
    reward = shared_weights_reward(
        single, setup.space, cost=setup.cost, price=setup.penalty if price is None else price, mean=setup.mean
    )
    train = learn_weights_along(
        setup.space,
        code_of or (lambda key, state: policy_of(state.allowed).sample(key, state.logits)),
        classification(single),
        of_weights,
        single.active,
        setup.mean,
    )
    method = relaxation(
        setup,
        *schedule(learn_policy(setup.space, policy_of, reward, optimizer, learning, regulariser), train),
        network=single,
        child_network=single,
        weights=of_weights,
        logits=optimizer,
        branches=True,
        initial=initial or everything.init,
        memory=no_experience(setup.space, learning),
        probabilities=lambda state: policy_of(state.allowed).probabilities(state.logits),
        derive=derive,
        variants=variants,
        finish_epoch=finish_epoch,
        scores=lambda state: _log_probabilities(policy_of, state),
        warmup_epochs=warmup_epochs,
    )
    return method._replace(fault=lambda state: (state.memory.faulty, state.memory.culprit))


def _log_probabilities(policy_of: PolicyOf, state: SearchState) -> Mapping[str, Array]:
    probabilities = policy_of(state.allowed).probabilities(state.logits)
    return {part: jnp.log(jnp.maximum(values, 1e-30)) for part, values in probabilities.items()}
