"""The lab's experiments by name: factories, settings -> Experiment."""

from collections.abc import Callable, Mapping

from jaxnas.evaluate.lab.agreement import cosine_and_cost, sigma_epsilon
from jaxnas.evaluate.lab.findings import Experiment
from jaxnas.evaluate.lab.one_step import best_by_width, loss_decrease
from jaxnas.evaluate.lab.quick_check import quick_check
from jaxnas.evaluate.lab.real_layer import real_layer
from jaxnas.evaluate.lab.rounding import stochastic_rounding
from jaxnas.evaluate.lab.training import training

EXPERIMENTS: Mapping[str, Callable[..., Experiment]] = {
    "quick_check": quick_check,
    "loss_decrease": loss_decrease,
    "best_by_width": best_by_width,
    "cosine_and_cost": cosine_and_cost,
    "sigma_epsilon": sigma_epsilon,
    "stochastic_rounding": stochastic_rounding,
    "real_layer": real_layer,
    "training": training,
}
