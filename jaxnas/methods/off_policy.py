"""The progressive search by off-policy reinforcement learning: rewards that need no derivative, in stages.

From a research log of 2021, "towards non-differentiable metrics of progressive NAS by off-policy RL", whose public code
draws from other distributions than it learns, without importance weights. See docs/progressive.md.
"""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from jaxnas.core.errors import UserError, choose
from jaxnas.core.keys import named
from jaxnas.core.types import Architecture, Array, Key, Logits, Space
from jaxnas.costs.penalties import Penalty, reward_power
from jaxnas.methods.controllers import policy_method
from jaxnas.methods.method import Arch, Method, Setup, Stage, Weights, initial_logits
from jaxnas.methods.policy_updates import Learning
from jaxnas.methods.progressive import check_stages, shrinking_stages, skip_dropout, skip_variants
from jaxnas.search.objectives import SearchState
from jaxnas.search.restriction import restricted_skips
from jaxnas.search.updates import Update, dropping, when
from jaxnas.spaces.space import encode
from jaxnas.strategies.off_policy import behaviour as behaviour_of
from jaxnas.strategies.policy import Code, Policy, factorised
from jaxnas.strategies.policy_search import vote

Schedule = Callable[[Update, Update], tuple[Update, ...]]  # (of the policy, of the weights) -> what a step does


def off_policy(
    setup: Setup,
    weights: Weights,
    logits: Arch,
    *,
    stage_layers: tuple[int, ...],
    stage_channels: tuple[int, ...],
    stage_operations: tuple[int, ...],
    stage_dropout: tuple[float, ...],
    stage_bases: tuple[float, ...],
    stage_exponents: tuple[float, ...],
    hard: bool,
    behaviour: str,
    epsilon: float,
    correction: str,
    importance_clip: float,
    replay: int,
    replayed: int,
    samples: int,
    every: int,
    warmup_epochs: int,
    mode: str,
    cycle_epochs: tuple[int, ...],
    skips: int,
    selection: str,
    entropy_weight: float,
    baseline_decay: float,
) -> tuple[Stage, ...]:
    """Paths through shared weights are drawn from a behaviour and rewarded; stages deepen and drop the least probable.

    stage_layers, stage_channels: cells and initial channels of each stage's supernet, () for the space's own in all.
    stage_operations: how many operations a choice still has in it; () for one stage with all. stage_dropout: the rate
        at which identities drop in the beginning of each stage while the weights learn (see `p_darts`); () for none.
    stage_bases, stage_exponents: the reward of each stage is accuracy · (cost / base)^exponent, with `hard` only above
        the base; () for that of cost.penalty in all stages.
    behaviour, epsilon, correction, importance_clip, replay, replayed, samples, entropy_weight, baseline_decay: see
        `policy_updates.Learning`. The weights learn along paths of the same behaviour.
    warmup_epochs: of each stage, in which the weights alone learn, along random paths.
    mode: "interleaved" lets weights learn in every step and the policy in one of `every`; "separate" has cycles of
        `cycle_epochs`: epochs of the weights alone, then epochs of the policy alone with a step of it in every step.
    selection: what a stage derives: "argmax", the most probable; "vote", the most frequent options of codes sampled
        from the policy; "best_sampled", the code that earned most. skips: see `p_darts`.
    The epochs are shared equally by the stages; weights and policy begin anew in each.
    Raises UserError for lists that do not fit one another, the space or the epochs, and for unknown names.
    """
    most = max(options for _, options in setup.space.shapes.values())
    operations = stage_operations or (most,)
    sizes = {"layers": stage_layers, "channels": stage_channels}
    lists = {f"stage_{name}": values for name, values in sizes.items()} | {
        "stage_dropout": stage_dropout,
        "stage_bases": stage_bases,
        "stage_exponents": stage_exponents,
    }
    setup.require(*(name for name, values in sizes.items() if values))
    given = {name: values for name, values in lists.items() if values}
    check_stages(setup, {"stage_operations": operations, **given}, warmup_epochs)
    part = setup._replace(epochs=setup.epochs // len(operations))
    prices = _prices(setup, stage_bases, stage_exponents, hard)
    schedule, weight_epochs = choose(
        "mode",
        mode,
        {
            "interleaved": lambda: _interleaved(part, warmup_epochs, every),
            "separate": lambda: _separate(part, warmup_epochs, cycle_epochs),
        },
    )()
    learning = Learning(
        samples, behaviour, epsilon, correction, importance_clip, replay, replayed, entropy_weight, baseline_decay
    )
    scores = selected_scores(selection, setup.space)

    def variants(state: SearchState) -> Mapping[str, Architecture]:
        return skip_variants(setup.space, scores(state))

    def stage(number: int) -> Method:
        dropout = stage_dropout[number] if stage_dropout else 0.0
        rate = skip_dropout(part, dropout, warmup_epochs)
        return policy_method(
            part,
            weights,
            logits.optimizer(),
            lambda allowed: factorised(setup.space, allowed),
            learning,
            lambda policy, train: schedule(policy, dropping(rate, train) if dropout else train),
            weight_epochs=weight_epochs,
            network=setup.network(paths=1, **{name: values[number] for name, values in sizes.items() if values}),
            price=prices[number] if prices else None,
            code_of=_acting(setup.space, learning, warmup_epochs * setup.steps_per_epoch),
            derive=lambda state: restricted_skips(setup.space, scores(state), skips),
            variants=variants if "normal" in setup.space.shapes else None,
            initial=lambda key: initial_logits(setup.space.shapes, key),  # ties are broken for "argmax"
            warmup_epochs=warmup_epochs,
        )

    return shrinking_stages(part.epochs, operations, stage)


def _prices(setup: Setup, bases: tuple[float, ...], exponents: tuple[float, ...], hard: bool) -> tuple[Penalty, ...]:
    """What makes the reward of every stage; () for the setup's penalty in all."""
    if bool(bases) != bool(exponents):
        given, missing = ("bases", "exponents") if bases else ("exponents", "bases")
        raise UserError(f"method.stage_{given} needs method.stage_{missing}, one for each stage.")
    if bases and setup.cost is None:
        raise UserError(
            "method.stage_bases prices what architectures cost, but cost.name is 'none'; take 'params', or set "
            "stage_bases and stage_exponents to ()."
        )
    return tuple(reward_power(base, exponent, hard) for base, exponent in zip(bases, exponents, strict=True))


def _interleaved(setup: Setup, warmup_epochs: int, every: int) -> tuple[Schedule, int]:
    """What a step does, and in how many epochs the weights learn."""
    learns = setup.after(warmup_epochs, every)
    return lambda policy, train: (train, when(learns, policy)), setup.epochs


def _separate(setup: Setup, warmup_epochs: int, cycle_epochs: tuple[int, ...]) -> tuple[Schedule, int]:
    """What a step does, and in how many epochs the weights learn."""
    if len(cycle_epochs) != 2:
        raise UserError(
            f"method.cycle_epochs has {len(cycle_epochs)} entries, but a cycle has two numbers of epochs: of the "
            "weights, and of the policy."
        )
    of_weights, of_policy = cycle_epochs
    if (setup.epochs - warmup_epochs) % (of_weights + of_policy):
        cycles = max(1, round((setup.epochs - warmup_epochs) / (of_weights + of_policy)))
        raise UserError(
            f"the {setup.epochs - warmup_epochs} epochs of a stage after its warm-up are not whole cycles of "
            f"{of_weights} + {of_policy} epochs; the nearest number of a stage's epochs that fits is "
            f"{warmup_epochs + cycles * (of_weights + of_policy)}."
        )

    def of_cycle(step: Array) -> Array:
        epoch = step // setup.steps_per_epoch - warmup_epochs
        return (epoch >= 0) & (epoch % (of_weights + of_policy) >= of_weights)

    weight_epochs = warmup_epochs + (setup.epochs - warmup_epochs) // (of_weights + of_policy) * of_weights
    return lambda policy, train: (when(lambda step: ~of_cycle(step), train), when(of_cycle, policy)), weight_epochs


def _acting(space: Space, learning: Learning, warmup_steps: int) -> Callable[[Key, SearchState], Code]:
    """Draws the paths of the weights from the behaviour, and uniformly before there is anything to behave by."""
    behaviour_of(learning.behaviour, factorised(space), space, learning.epsilon)  # a wrong one is found now

    def code_of(key: Key, state: SearchState) -> Code:
        policy = factorised(space, state.allowed)

        def drawn(name: str) -> Code:
            acting = behaviour_of(name, policy, space, learning.epsilon, state.allowed)
            return acting.sample(named(key, name), state.logits)

        acted, random = drawn(learning.behaviour), drawn("random")
        return {part: jnp.where(state.step < warmup_steps, random[part], acted[part]) for part in space.shapes}

    return code_of


def selected_scores(selection: str, space: Space) -> Callable[[SearchState], Logits]:
    """state -> logits {part: [choices, options]} whose decoding is what the rule `selection` derives.

    Where a rule selects a code, its options come first and the others by their probability in the policy.
    """

    def of_code(code_of: Callable[[Policy, SearchState], Code]) -> Callable[[SearchState], Logits]:
        def scores(state: SearchState) -> Logits:
            policy = factorised(space, state.allowed)
            probabilities, code = policy.probabilities(state.logits), encode(space, code_of(policy, state))
            return {part: jnp.log((code[part] + values) / 2) for part, values in probabilities.items()}

        return scores

    def best_sampled(policy: Policy, state: SearchState) -> Code:
        best = state.memory.best
        nothing = jnp.isneginf(best.reward)
        return jax.tree.map(
            lambda mode, code: jnp.where(nothing, mode, code), dict(policy.mode(state.logits)), dict(best.architecture)
        )

    rules = {
        "argmax": lambda state: state.visible,
        "vote": of_code(lambda policy, state: vote(policy, state.logits)),
        "best_sampled": of_code(best_sampled),
    }
    return choose("selection", selection, rules)
