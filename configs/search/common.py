"""The fields that every search config has, and the two scales they come in: bundled digits and CIFAR-10.

Every search config file starts from `digits()` or `cifar10()` and adds its method. A field given on the command line
(`--config.epochs=3`) replaces the one here.
"""

from ml_collections import ConfigDict

OPERATIONS = (
    "none",
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)


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


def darts(order: int) -> ConfigDict:
    """DARTS as published; `hessian` matters for order 2 only ("autodiff" or "finite_differences")."""
    return ConfigDict({"name": "darts", "order": order, "hessian": "finite_differences", **WEIGHTS, **LOGITS})


def gdas() -> ConfigDict:
    """GDAS as published, except that gates which were not drawn get no gradient (`bare_gates` restores it)."""
    temperature = {"temperature": 10.0, "final_temperature": 0.1, "bare_gates": False}
    return ConfigDict({"name": "gdas", **temperature, **WEIGHTS, **LOGITS})


def random_search(candidates: int) -> ConfigDict:
    """Random search over `candidates` architectures, which share the epochs equally."""
    return ConfigDict({"name": "random", "candidates": candidates, **WEIGHTS})


def cifar10() -> ConfigDict:
    """The settings of the DARTS paper on CIFAR-10."""
    return ConfigDict(
        {
            "seed": 0,
            "num_seeds": 1,  # searches with seeds seed, seed + 1, ... in one program
            "epochs": 50,
            "batch_size": 64,
            "devices": 1,  # local devices that share every batch
            "synchronize_statistics": True,  # batch statistics over all devices, or over each one's slice
            "method": {"name": ""},
            "space": {"name": "darts", "channels": 16, "layers": 8, "nodes": 4, "operations": OPERATIONS},
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
        }
    )


def digits() -> ConfigDict:
    """Small enough for two CPU cores and a few minutes: 8×8 grey images, a narrow and shallow supernet."""
    config = cifar10()
    config.epochs = 12
    config.batch_size = 32
    config.space.channels = 8
    config.space.layers = 4
    config.data.name = "digits"
    config.data.crop_padding = 1
    config.data.flip = False  # a mirrored digit is another sign
    config.retrain.epochs = 15
    config.retrain.batch_size = 64
    config.retrain.channels = 8
    config.retrain.layers = 4
    config.retrain.auxiliary = False
    config.retrain.drop_path = 0.0
    config.retrain.cutout = 0
    config.checkpoint.every_seconds = 30.0
    return config
