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


def random_search(candidates: int) -> ConfigDict:
    """Random search over `candidates` architectures, which share the epochs equally."""
    return ConfigDict({"name": "random", "candidates": candidates, **WEIGHTS})


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
            "cost": {
                "name": "none",  # what the architecture's loss counts: "params", "mult_adds" or "latency"
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
