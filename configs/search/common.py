"""The fields that every search config has, and the two scales they come in: bundled digits and CIFAR-10.

Every search config file starts from `digits()` or `cifar10()` and adds its method. A field given on the command line
(`--config.epochs=3`) replaces the one here.
"""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from configs.search import spaces

WEIGHTS = {
    "weights_learning_rate": 0.025,
    "weights_final_learning_rate": 0.001,
    "momentum": 0.9,
    "weight_decay": 3e-4,
    "clip": 5.0,
}


LOGITS = {"logits_learning_rate": 3e-4, "logits_weight_decay": 1e-3}

# A search of a few hundred steps has to move its logits faster than one of twenty thousand.
SHORT_LOGITS = {"logits_learning_rate": 0.02}
# Evolution of a minute: 100 architectures.
SHORT_EVOLUTION = {"rounds": 5, "population": 20, "parents": 5, "mutants": 10, "crossovers": 10}


# A search by prediction: the layers of the predictor and the evolution as Once-for-All publishes them.
PREDICTION = {
    "measured": 1000,
    "predictor_hidden": (400, 400, 400),
    "predictor_steps": 5000,
    "predictor_batch": 256,
    "predictor_learning_rate": 1e-3,
    "predictor_weight_decay": 1e-3,
    "held_out": 0.2,
    "rounds": 500,
    **{"population": 100, "parents": 25, "mutants": 50, "crossovers": 50, "mutation_rate": 0.1},
    "finalists": 10,
    "calibrate": 256,
}
# The same within seconds.
SHORT_PREDICTION = {
    "measured": 200,
    "predictor_steps": 1000,
    "predictor_batch": 64,
    "rounds": 100,
}


# The gradient of the architecture at the present weights. Order 2 goes through a step of the weights, with exact
# Hessian products ("autodiff") or those of the DARTS paper ("finite_differences").
FIRST_ORDER = {"order": 1, "hessian": "finite_differences"}


def darts(order: int) -> ConfigDict:
    """DARTS as published."""
    return ConfigDict({"name": "darts", **FIRST_ORDER, "order": order, **WEIGHTS, **LOGITS})


def gdas() -> ConfigDict:
    """GDAS as published, except that gates which were not drawn get no gradient (`bare_gates` restores it)."""
    own = {"draw": "gumbel", "temperature": 10.0, "final_temperature": 0.1, "bare_gates": False}
    return ConfigDict({"name": "gdas", **own, **FIRST_ORDER, **WEIGHTS, **LOGITS})


def snas() -> ConfigDict:
    """SNAS; the final temperature is a matter of dispute (0.03 in the public code's notes)."""
    own = {"temperature": 1.0, "final_temperature": 0.03, "credit": "pathwise", "samples": 8}
    return ConfigDict({"name": "snas", **own, **WEIGHTS, **LOGITS})


def dsnas() -> ConfigDict:
    """DSNAS; `fix_above` below 1 keeps an option for good once it is that probable."""
    return ConfigDict({"name": "dsnas", "fix_above": 1.0, **WEIGHTS, **LOGITS})


def pc_darts() -> ConfigDict:
    """PC-DARTS as published for CIFAR-10."""
    own = {"partial": 4, "warmup_epochs": 15, **FIRST_ORDER}
    rates = {"weights_learning_rate": 0.1, "weights_final_learning_rate": 0.0, "logits_learning_rate": 6e-4}
    return ConfigDict({"name": "pc_darts", **own, **WEIGHTS, **LOGITS, **rates})


def p_darts() -> ConfigDict:
    """P-DARTS as published for CIFAR-10: three stages of 25 epochs."""
    stages = {
        "stage_layers": (5, 11, 17),
        "stage_channels": (16, 16, 16),
        "stage_operations": (8, 5, 3),
        "stage_dropout": (0.0, 0.4, 0.7),
        "warmup_epochs": 10,
        "skips": 2,
    }
    rates = {"weights_final_learning_rate": 0.0, "logits_learning_rate": 6e-4}
    return ConfigDict({"name": "p_darts", **stages, **FIRST_ORDER, **WEIGHTS, **LOGITS, **rates})


def proxylessnas() -> ConfigDict:
    """ProxylessNAS-G as published for ImageNet: 40 epochs of the weights alone, then a step of the logits in five."""
    own = {"gates": "two_path", "warmup_epochs": 40, "every": 5, **FIRST_ORDER}
    rates = {"weights_final_learning_rate": 0.0, "logits_learning_rate": 1e-3, "logits_weight_decay": 0.0}
    return ConfigDict({"name": "proxylessnas", **own, **WEIGHTS, **rates})


def fbnet() -> ConfigDict:
    """FBNet as published: the temperature falls by 4.5 % an epoch for 90 epochs, ten of them of the weights alone."""
    own = {"temperature": 5.0, "final_temperature": 0.087, "warmup_epochs": 10, "candidates": 6, **FIRST_ORDER}
    rates = {"weights_learning_rate": 0.1, "weights_final_learning_rate": 0.0}
    logits = {"logits_learning_rate": 0.01, "logits_weight_decay": 5e-4}
    return ConfigDict({"name": "fbnet", **own, **WEIGHTS, **rates, **logits})


def fbnet_v2() -> ConfigDict:
    """FBNetV2 as published: FBNet's schedule over masks."""
    config = fbnet()
    del config.candidates
    config.name = "fbnet_v2"
    return config


def single_path() -> ConfigDict:
    """Single-Path NAS; the thresholds' learning rate is in units of squared norms of kernels."""
    return ConfigDict({"name": "single_path", **WEIGHTS, "logits_learning_rate": 0.01, "logits_weight_decay": 0.0})


def mdenas() -> ConfigDict:
    """MDENAS as published: a comparison of two options moves a logit by 0.01."""
    return ConfigDict({"name": "mdenas", "distribution_learning_rate": 0.01, "warmup_epochs": 0, **WEIGHTS})


def composed(sampler: str, estimator: str) -> ConfigDict:
    """Any sampler with any estimator; what one of them does not use does not matter."""
    own = {"temperature": 1.0, "final_temperature": 0.1, "samples": 8, "scale": 0.1, "single_level": False}
    named = {"name": "composed", "sampler": sampler, "estimator": estimator}
    return ConfigDict({**named, **own, **FIRST_ORDER, **WEIGHTS, **LOGITS})


def enas() -> ConfigDict:
    """ENAS as published for its macro space: 50 steps of the controller an epoch, 20 paths in each."""
    own = {
        "hidden": 64,
        "temperature": 1.0,
        "tanh_constant": 1.5,
        "entropy_weight": 1e-4,
        "skip_weight": 0.8,
        "skip_target": 0.4,
        "baseline_decay": 0.99,
        "samples": 20,
        "every": 14,
        "candidates": 10,
    }
    rates = {"weights_learning_rate": 0.05, "weights_final_learning_rate": 5e-4, "weight_decay": 2.5e-4}
    logits = {"logits_learning_rate": 1e-3, "logits_weight_decay": 0.0}
    return ConfigDict({"name": "enas", **own, **WEIGHTS, **rates, **logits})


def proxylessnas_r() -> ConfigDict:
    """ProxylessNAS-R: 10 paths in a step of the logits, after 40 epochs of the weights alone."""
    own = {"samples": 10, "every": 5, "warmup_epochs": 40, "baseline_decay": 0.99}
    rates = {"weights_final_learning_rate": 0.0, "logits_learning_rate": 1e-3, "logits_weight_decay": 0.0}
    return ConfigDict({"name": "proxylessnas_r", **own, **WEIGHTS, **rates})


def off_policy() -> ConfigDict:
    """The progressive off-policy search: the stages, rates and prices of its log, and importance weights."""
    own = {
        "stage_layers": (5, 11, 17),
        "stage_channels": (16, 16, 16),
        "stage_operations": (10, 6, 3),
        "stage_dropout": (0.3, 0.6, 0.8),
        "stage_bases": (6.4e6, 5.4e6, 4.4e6),  # parameters
        "stage_exponents": (-0.45, -0.25, -0.2),
        "hard": False,  # True: what costs less than the base earns no more
        "behaviour": "epsilon",  # "policy", "random", "argmax", "epsilon" or "epsilon_per_choice"
        "epsilon": 0.3,
        "correction": "clipped",  # "none", "ordinary", "clipped", "self_normalised" or "per_decision"
        "importance_clip": 2.0,
        "replay": 100,
        "replayed": 10,
        "samples": 10,
        "every": 2,
        "warmup_epochs": 10,
        "mode": "interleaved",  # or "separate", in cycles of so many epochs of the weights and of the policy
        "cycle_epochs": (2, 1),
        "skips": 2,
        "selection": "argmax",  # "vote" or "best_sampled"
        "entropy_weight": 0.0,
        "baseline_decay": 0.9,
    }
    rates = {"weights_final_learning_rate": 0.0, "logits_learning_rate": 5e-3, "logits_weight_decay": 0.0}
    return ConfigDict({"name": "off_policy", **own, **WEIGHTS, **rates})


def random_nas() -> ConfigDict:
    """Random search with weight sharing: of 1000 candidates ten are judged on the whole validation half."""
    return ConfigDict({"name": "random_nas", "candidates": 1000, "finalists": 10, "calibrate": 0, **WEIGHTS})


def one_shot() -> ConfigDict:
    """One-Shot; 20,000 candidates as published, and a final rate of our own."""
    return ConfigDict({"name": "one_shot", "dropout": 0.1, "candidates": 20_000, "calibrate": 0, **WEIGHTS})


def spos() -> ConfigDict:
    """SPOS with its published evolution; `cost_bins` spreads the paths that train evenly over their costs."""
    evolution = {"population": 50, "parents": 10, "mutants": 25, "crossovers": 25, "mutation_rate": 0.1}
    own = {"rounds": 20, **evolution, "calibrate": 256, "cost_bins": 0}
    return ConfigDict({"name": "spos", **own, **WEIGHTS, "weights_final_learning_rate": 0.0})


def few_shot() -> ConfigDict:
    """Few-shot NAS: SPOS on supernets split at the choice whose options disagree most; half of the epochs each."""
    evolution = {"population": 50, "parents": 10, "mutants": 25, "crossovers": 25, "mutation_rate": 0.1}
    own = {"splits": 1, "split_at": (), "probes": 20, "member_epochs": 60, "rounds": 20, **evolution, "calibrate": 256}
    return ConfigDict({"name": "few_shot", **own, **WEIGHTS, "weights_final_learning_rate": 0.0})


def smash() -> ConfigDict:
    """SMASH with its published 500 samples and 100 perturbations, and the chain of 100 steps of the authors' code."""
    own = {"samples": 500, "perturbations": 100, "markov": 100, "mutation_rate": 0.05, "calibrate": 256}
    return ConfigDict({"name": "smash", **own, **WEIGHTS, "weights_final_learning_rate": 0.0})


def fairnas() -> ConfigDict:
    """FairNAS; the rates of its NSGA-II are our own."""
    own = {"rounds": 20, "population": 50, "mutation_rate": 0.1, "crossover_rate": 0.5, "calibrate": 256}
    return ConfigDict({"name": "fairnas", **own, **WEIGHTS, "weights_final_learning_rate": 0.0})


def predicted() -> ConfigDict:
    """A search by prediction on a supernet of uniform paths; the evolution is Once-for-All's."""
    return ConfigDict({"name": "predicted", **PREDICTION, **WEIGHTS, "weights_final_learning_rate": 0.0})


# SGD of Once-for-All, for batches of 64; its first stage by the paper, which trains 2048 images at a rate of 2.6.
NESTED = {
    "weights_learning_rate": 0.08,
    "weights_final_learning_rate": 0.0,
    "momentum": 0.9,
    "weight_decay": 3e-5,
    "clip": 1e3,  # none is published
}


def once_for_all() -> ConfigDict:
    """Once-for-All as published for ImageNet, where the first stage has 180 epochs."""
    own = {
        "kernel_epochs": 120,
        "depth_epochs": (25, 120),
        "width_epochs": (25, 120),
        "warmup_epochs": 5,
        "kernel_learning_rate": 0.03,
        "depth_learning_rates": (0.0025, 0.0075),
        "width_learning_rates": (0.0025, 0.0075),
        "kernel_subnets": 1,
        "depth_subnets": 2,
        "width_subnets": 4,
        "distillation": 1.0,  # by the largest network as the first stage left it; 0: none
    }
    return ConfigDict({"name": "once_for_all", **own, **PREDICTION, **NESTED})


def joint() -> ConfigDict:
    """Plain joint training of as many subnets in a step as Once-for-All ends with, without a teacher."""
    return ConfigDict({"name": "joint", "subnets": 4, "distillation": 0.0, **PREDICTION, **NESTED})


def sandwich() -> ConfigDict:
    """The sandwich rule with BigNAS's two subnets between the largest and the smallest."""
    return ConfigDict({"name": "sandwich", "subnets": 2, **PREDICTION, **NESTED})


def random_search(candidates: int) -> ConfigDict:
    """Random search over `candidates` architectures, which share the epochs equally."""
    return ConfigDict({"name": "random", "candidates": candidates, **WEIGHTS})


def halving(candidates: int) -> ConfigDict:
    """Random search with early stopping: the best third of `candidates` goes on, and the best third of these."""
    return ConfigDict({"name": "halving", "candidates": candidates, "reduction": 3, "rungs": 3, **WEIGHTS})


def cifar10(space: Mapping[str, Any] = spaces.DARTS) -> ConfigDict:
    """The settings of the DARTS paper on CIFAR-10, on one of `spaces`."""
    return _on(
        space,
        {
            "seed": 0,
            "num_seeds": 1,  # searches with seeds seed, seed + 1, ... in one program
            "epochs": 50,
            "batch_size": 64,
            "devices": 1,  # local devices that share every batch
            "synchronize_statistics": True,  # batch statistics over all devices, or over each one's slice
            "method": {"name": ""},
            "space": {"name": ""},
            # What architectures share where a space has several ways: "slices", "superkernel", "paths" or "generated".
            "supernet": {"sharing": ""},
            "cost": {
                "name": "none",  # what is counted: "params", "mult_adds", "bit_operations" or "latency"
                "table": "",  # the latency table, as launch/latency.py writes it
                "limit": 0.0,  # the most that what is derived may cost; 0: whatever it costs
                "penalty": {"name": "relative", "weight": 0.1, "reference": 1e6},
            },
            "table": {
                "path": "",  # a CSV file of true accuracies, architecture,METRIC,...: the report then shows them
                "metric": "",
                "scale": 0.01,  # makes fractions of the table's percentages
            },
            "monitor": {
                "skips": 0,  # stop once the derived normal cell has more identities than this; 0: never
                "curvature": False,  # measure the curvature of the validation loss in the logits after every epoch
                "curvature_growth": 0.0,  # stop once it has grown by more than this factor; 0: never
            },
            "data": {
                "name": "cifar10",
                "path": "",  # the npz file, or the folder of tensorflow-datasets
                "train_fraction": 0.5,  # of the training split, for the weights; the rest is for the architecture
                "crop_padding": 4,
                "flip": True,
                "cutout": 0,
            },
            "retrain": {
                "epochs": 600,  # 0 leaves what was found untrained
                "batch_size": 96,
                "channels": 36,
                "layers": 20,
                "auxiliary": True,
                "auxiliary_weight": 0.4,
                "drop_path": 0.2,
                "cutout": 16,
                "learning_rate": 0.025,
                "momentum": 0.9,
                "weight_decay": 3e-4,
                "clip": 5.0,
                "random_baseline": True,  # also trains one random architecture per seed with the same budget
            },
            "checkpoint": {
                "every_steps": 0,  # 0: only by time
                "every_seconds": 300.0,
                "keep": 2,
            },
        },
    )


def _on(space: Mapping[str, Any], fields: dict[str, Any]) -> ConfigDict:
    """The fields with a space, without what only the stand-alone networks of two cells have if it is another one."""
    if space["name"] != "darts":
        for name in ("channels", "layers", "auxiliary"):
            del fields["retrain"][name]
    return ConfigDict({**fields, "space": dict(space)})


def digits(space: Mapping[str, Any] = spaces.DARTS_8) -> ConfigDict:
    """Small enough for two CPU cores and a few minutes: 8×8 grey images, a narrow and shallow supernet."""
    config = cifar10(space)
    config.epochs = 12
    config.batch_size = 32
    config.data.name = "digits"
    config.data.crop_padding = 1
    config.data.flip = False  # a mirrored digit is another sign
    config.retrain.epochs = 15
    config.retrain.batch_size = 64
    if space["name"] == "darts":
        config.retrain.channels = 8
        config.retrain.layers = 4
        config.retrain.auxiliary = False
    config.retrain.drop_path = 0.0
    config.retrain.cutout = 0
    config.checkpoint.every_seconds = 30.0
    return config
