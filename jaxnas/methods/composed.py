"""Any sampler with any estimator: for combinations that nobody has published yet."""

from collections.abc import Callable, Mapping

import optax

from jaxnas.core.errors import UserError, choose
from jaxnas.core.types import Array, Gates, GradEstimator, Metrics, Sampler
from jaxnas.estimators.coordinate import coordinate_differences
from jaxnas.estimators.nes import nes
from jaxnas.estimators.pathwise import pathwise
from jaxnas.estimators.score import score_function, through
from jaxnas.methods.method import Arch, Method, Setup, Weights, bilevel, relaxation, softmax_gates
from jaxnas.relax import categorical
from jaxnas.search.objectives import Batches, SearchState, classification
from jaxnas.search.updates import learn_logits, learn_weights

# {name: (sampler for a temperature schedule, how many paths it runs at once; None for all)}
SAMPLERS: Mapping[str, tuple[Callable[[optax.Schedule], Sampler], int | None]] = {
    "softmax": (lambda temperature: categorical.softmax(), None),
    "gumbel_softmax": (categorical.gumbel_softmax, None),
    "gumbel_straight_through": (categorical.gumbel_straight_through, 1),
    "multinomial_straight_through": (lambda temperature: categorical.multinomial_straight_through(), 1),
    "log_prob_straight_through": (lambda temperature: categorical.log_prob_straight_through(), 1),
    "two_paths": (lambda temperature: categorical.two_paths(), 2),
}
# Samplers whose gates are one-hot and distributed as the logits say.
DRAWN = ("gumbel_straight_through", "multinomial_straight_through", "log_prob_straight_through")
ESTIMATORS = ("pathwise", "score_function", "coordinate_differences", "nes")


def composed(
    setup: Setup,
    weights: Weights,
    logits: Arch,
    *,
    sampler: str,
    estimator: str,
    temperature: float,
    final_temperature: float,
    samples: int,
    scale: float,
    single_level: bool,
    order: int,
    hessian: str,
) -> Method:
    """A search made of a sampler and an estimator by name (SAMPLERS, ESTIMATORS).

    temperature, final_temperature: for samplers that have one, falling by the same factor in every step.
    samples: draws of the score function, population of the evolution strategy. scale: the standard deviation of the
    evolution strategy's noise on the logits, the step of coordinate differences.
    single_level: learn the architecture on the batch of the weights. order, hessian: as for `darts`, where two levels.
    With two paths the weights learn along one. Raises UserError for a score function of gates that are not drawn.
    """
    schedule = categorical.exponential_temperature(temperature, final_temperature, setup.steps)
    build, paths = choose("sampler", sampler, SAMPLERS)
    draw = build(schedule)
    network = setup.network(paths=paths)
    loss = classification(network)
    if single_level and order != 1:
        raise UserError("method.single_level has one loss, so method.order must be 1.")
    priced = setup.priced(loss)
    two_levels = bilevel(setup, loss, weights, order, hessian)

    def one_level(state: SearchState, gates: Gates, batches: Batches) -> tuple[Array, Metrics]:
        return priced(state.params, gates, batches.train)

    objective = one_level if single_level else two_levels
    if estimator == "score_function" and sampler not in DRAWN:
        raise UserError(
            f"the score function needs gates that are drawn from softmax(logits), which {sampler!r} does not give; "
            f"take one of {', '.join(DRAWN)}."
        )
    of_weights, of_logits = weights.optimizer(setup.steps, paths=paths is not None), logits.optimizer()
    single = setup.network(paths=1)
    trained, by = (single, categorical.multinomial_straight_through()) if paths == 2 else (network, draw)
    return relaxation(
        setup,
        learn_logits(_estimator(estimator, draw, samples, scale), objective, of_logits, setup.mean),
        learn_weights(by, classification(trained), of_weights, trained.active, setup.mean),
        network=network,
        child_network=single,
        weights=of_weights,
        logits=of_logits,
        branches=paths is not None,
        judged_by=softmax_gates if paths is None else None,
    )


def _estimator(name: str, sampler: Sampler, samples: int, scale: float) -> GradEstimator:
    makers = {
        "pathwise": lambda: pathwise(sampler),
        "score_function": lambda: score_function(sampler, samples=samples),
        "coordinate_differences": lambda: through(sampler, coordinate_differences(scale)),
        "nes": lambda: through(sampler, nes(population=samples, sigma=scale)),
    }
    return choose("estimator", name, makers)()
