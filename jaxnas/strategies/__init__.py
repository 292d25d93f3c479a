"""Strategies and policies by name, as configs choose them. To add one, write its function and a row here.

A strategy is built from a `Problem`, for some also a `Policy`, and its settings; a policy from a space.
"""

from collections.abc import Callable, Mapping

from jaxnas.strategies.counting import mdenas
from jaxnas.strategies.evolution import ageing, evolution
from jaxnas.strategies.halving import successive_halving
from jaxnas.strategies.off_policy import off_policy
from jaxnas.strategies.pareto import nsga2
from jaxnas.strategies.perturbation import perturbation
from jaxnas.strategies.policy import Policy, factorised
from jaxnas.strategies.policy_gradient import ppo, reinforce
from jaxnas.strategies.random_search import random_search
from jaxnas.strategies.recurrent import recurrent
from jaxnas.strategies.strategy import Strategy

__all__ = ["POLICIES", "STRATEGIES"]

STRATEGIES: Mapping[str, Callable[..., Strategy]] = {
    "random": random_search,
    "successive_halving": successive_halving,
    "evolution": evolution,
    "ageing": ageing,
    "nsga2": nsga2,
    "perturbation": perturbation,
    "reinforce": reinforce,
    "ppo": ppo,
    "off_policy": off_policy,
    "mdenas": mdenas,
}
POLICIES: Mapping[str, Callable[..., Policy]] = {
    "factorised": factorised,
    "recurrent": recurrent,
}
