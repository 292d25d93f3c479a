"""The fields that every config of searches in a table has, and the strategies with settings for a few hundred lookups.

The settings are those that do well within a budget of about a thousand evaluations of a space of some thousands of
architectures, as far as a few tries told; they are nobody's published ones.
"""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from ml_collections import ConfigDict

FACTORISED = {"name": "factorised"}
# The controller of ENAS.
RECURRENT = {"name": "recurrent", "hidden": 32, "temperature": 1.0, "tanh_constant": 2.5}
LEARNING = {"batch": 10, "learning_rate": 0.1, "entropy_weight": 0.001, "baseline_decay": 0.9}
OFF_POLICY = {
    "name": "off_policy",
    "policy": FACTORISED,
    **LEARNING,
    "behaviour": "epsilon",
    "epsilon": 0.3,
    "correction": "clipped",
    "clip": 2.0,
    "replay": 200,
    "replayed": 10,
    "gradient_clip": 0.0,
}
STRATEGIES: Mapping[str, Mapping[str, Any]] = {
    "reinforce": {"name": "reinforce", "policy": FACTORISED, **LEARNING, "clip": 0.0},
    "ppo": {"name": "ppo", "policy": FACTORISED, **LEARNING, "clip_ratio": 0.2, "updates": 4},
    "off_policy": OFF_POLICY,
    "mdenas": {"name": "mdenas", "batch": 20, "learning_rate": 0.03},
    "reinforce_lstm": {"name": "reinforce", "policy": RECURRENT, **LEARNING, "learning_rate": 0.01, "clip": 0.0},
    "random": {"name": "random", "batch": 10},
    "successive_halving": {"name": "successive_halving", "candidates": 27, "reduction": 3, "rungs": 3},
    "evolution": {
        "name": "evolution",
        "population": 20,
        "parents": 10,
        "mutants": 10,
        "crossovers": 10,
        "mutation_rate": 0.1,
    },
    "ageing": {"name": "ageing", "population": 50, "sample": 10, "mutation_rate": 0.1, "batch": 5},
    "nsga2": {"name": "nsga2", "population": 20, "mutation_rate": 0.1, "crossover_rate": 0.9},
    "perturbation": {
        "name": "perturbation",
        "samples": 500,
        "perturbations": 100,
        "mutation_rate": 0.05,
        "batch": 10,
    },
}


def tabular(question: str, space: Mapping[str, Any], strategies: Mapping[str, Mapping[str, Any]]) -> ConfigDict:
    """The config of searches in a table of a space; `strategies` are names with their settings, by label."""
    return ConfigDict(
        {
            "question": question,  # what the report says that it asks
            "seed": 0,
            "repetitions": 1000,  # of every search
            "evaluations": 1000,  # whole ones, of every repetition
            "space": dict(space),
            "images": {"size": 32, "channels": 3, "classes": 10},  # what parameters and mult-adds are counted for
            "table": {
                "path": "",  # a CSV file with true accuracies: architecture,METRIC,...
                "metric": "accuracy",
                "scale": 1.0,  # 0.01 makes fractions of percentages
                "trainings": (),  # metrics of single trainings, one of which an evaluation answers; (): the metric
                "noise": 0.0,  # of short trainings: noise · √(1 / fidelity - 1) is added to their answers
                "missing": "error",  # what architectures that are not listed do, or "worst": answer the lowest listed
            },
            "cost": {
                "name": "none",  # or "column" of the table, or of networks "params", "mult_adds" or "bit_operations"
                "column": "",
                "limit": 0.0,  # what costs more does not count, 0: everything does
                "target": 0.0,  # the reward is accuracy · (cost / target)^exponent, 0: the accuracy
                "exponent": -0.07,
                "hard": False,  # only what exceeds the target costs
            },
            "strategies": {label: deepcopy(dict(strategy)) for label, strategy in strategies.items()},
        }
    )
