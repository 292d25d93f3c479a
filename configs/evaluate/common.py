"""The fields that every evaluation config has: a network, its training recipe, and the data.

Every config file starts from one of these networks and replaces what differs. `small` makes any of them finish in
minutes on the bundled digits.
"""

from typing import Any

from ml_collections import ConfigDict

from jaxnas.core.errors import UserError

# What a recipe says where a paper says nothing.
PLAIN = {
    "schedule": "cosine",  # "linear", "steps" or "exponential"
    "decay_epochs": (),
    "decay_factor": 1.0,
    "warmup_epochs": 0,
    "optimizer": "sgd",  # or "adam"
    "momentum": 0.9,
    "nesterov": False,
    "clip": 0.0,  # 0: gradients as they are
    "drop_path": 0.0,
    "auxiliary_weight": 0.0,
    "label_smoothing": 0.0,
    "average_decay": 0.0,  # above 0: the network is judged by a moving average of its variables
    "accumulate": 1,  # parts of a batch, one after another, for less memory
    "precision": "float32",  # or "bfloat16"
    "estimator": "backpropagation",  # "nes" or "coordinate": gradients from losses alone, for small networks of signs
    "population": 100,  # of "nes"
    "sigma": 0.01,  # the deviation of its noise, or the step of "coordinate"
    "recompute": False,  # True: blocks run again on the way back, for less memory
}
DARTS = {
    **PLAIN,
    "epochs": 600,
    "batch_size": 96,
    "learning_rate": 0.025,
    "weight_decay": 3e-4,
    "clip": 5.0,
    "drop_path": 0.2,
    "auxiliary_weight": 0.4,
}
DARTS_IMAGENET = {
    **DARTS,
    "epochs": 250,
    "batch_size": 128,
    "learning_rate": 0.1,
    "weight_decay": 3e-5,
    "schedule": "exponential",
    "decay_factor": 0.97,
    "drop_path": 0.0,
    "label_smoothing": 0.1,
}
# Default settings of the compression experiments (Gray, Crowley & Storkey 2019), which are those of Zagoruyko &
# Komodakis 2016 without Nesterov's momentum.
WIDE = {
    **PLAIN,
    "epochs": 200,
    "batch_size": 128,
    "learning_rate": 0.1,
    "weight_decay": 5e-4,
    "schedule": "steps",
    "decay_epochs": (60, 120, 160),
    "decay_factor": 0.2,
}
WIDE_IMAGENET = {
    **WIDE,
    "epochs": 90,
    "batch_size": 256,
    "weight_decay": 1e-4,
    "decay_epochs": (30, 60),
    "decay_factor": 0.1,
}
XNOR = {**PLAIN, "epochs": 200, "batch_size": 128, "learning_rate": 2e-3, "weight_decay": 0.0, "optimizer": "adam"}

CIFAR10 = {"size": 32, "channels": 3, "classes": 10}
# Images are cropped and mirrored as they are decoded.
STREAMED = {"name": "imagenet2012", "streamed": True, "crop_padding": 0, "flip": False}
IMAGENET = {"size": 224, "channels": 3, "classes": 1000}
DIGITS = {"size": 8, "channels": 1, "classes": 10}


def evaluation(network: dict[str, Any], recipe: dict[str, Any], genotype: str = "") -> ConfigDict:
    """A network trained on CIFAR-10. genotype: of a network that has one, by name, as text or from a result.json."""
    config = ConfigDict(
        {
            "seed": 0,
            "num_seeds": 1,  # trainings with seeds seed, seed + 1, ... in one program
            "devices": 1,  # local devices that share every batch
            "synchronize_statistics": False,  # batch statistics over all devices, or over each one's slice
            "images": dict(CIFAR10),
            "network": dict(network),
            "substitute": {
                "kind": "none",  # what replaces dense convolutions, a name of jaxnas.layers.substitutes
                "budget": 0.1,  # below 1 the share of its parameters that a layer keeps, else parameters in all
                "setting": 0,  # above 0: the hyper-parameter itself, as far as a layer can have it, whatever the budget
                "keep": ("stem", "shortcut"),  # modules whose convolutions stay
                "scale_decay": True,  # compressed parameters decay by the compression ratio times the weight decay
            },
            "teacher": {
                "workdir": "",  # of a finished evaluation whose network is the teacher
                "taps": (("group_1", "group_1"), ("group_2", "group_2"), ("group_3", "group_3")),  # (student's, its)
                "attention": 1e3,
                "soft": 0.0,  # share of the loss that is the divergence from the teacher's answers
                "temperature": 4.0,
            },
            "data": {
                "name": "cifar10",
                "path": "",  # the npz file, or the folder of tensorflow-datasets
                "streamed": False,  # decode images while training, for sets that do not fit into memory
                "workers": 4,  # processes that decode
                "crop_padding": 4,
                "flip": True,
                "cutout": 0,
                "validation_fraction": 0.0,  # of the training split, held out and looked at after every epoch
            },
            "recipe": dict(recipe),
            "selection": {
                "epochs": 0,  # of the short trainings that choose among several genotypes; 0: the search's choice
                "seeds": 1,  # of each
                "validation_fraction": 0.1,  # of the training split, which judges them and is trained on afterwards
                "random_baseline": False,  # also trains random architectures, as many and chosen in the same way
            },
            "checkpoint": {"every_steps": 0, "every_seconds": 300.0, "keep": 2},
        }
    )
    if genotype:
        config.genotype = genotype
    return config


def cells(genotype: str) -> ConfigDict:
    """A genotype as DARTS evaluates it on CIFAR-10."""
    network = {"name": "cells", "channels": 36, "layers": 20, "auxiliary": True, "stem": "cifar"}
    config = evaluation(network, DARTS, genotype)
    config.substitute.keep = ("stem",)
    config.teacher.taps = (("cell_6", "cell_6"), ("cell_13", "cell_13"), ("cell_19", "cell_19"))
    config.data.cutout = 16
    config.selection.random_baseline = True
    return config


def cells_imagenet(genotype: str) -> ConfigDict:
    """A genotype as DARTS evaluates it on ImageNet."""
    config = cells(genotype)
    config.network.update({"channels": 48, "layers": 14, "stem": "imagenet"})
    config.recipe.update(DARTS_IMAGENET)
    config.images.update(IMAGENET)
    config.teacher.taps = (("cell_4", "cell_4"), ("cell_9", "cell_9"), ("cell_13", "cell_13"))
    config.data.update(STREAMED)
    config.data.cutout = 0
    return config


def wide_resnet(depth: int = 28, width: int = 10) -> ConfigDict:
    """A wide ResNet on CIFAR-10."""
    return evaluation({"name": "wide_resnet", "depth": depth, "width": width}, WIDE)


def wrn_50_2() -> ConfigDict:
    """WRN-50-2 on ImageNet: ResNet-50 with expansion 2 and doubled widths."""
    network = {"name": "bottleneck_resnet", "depths": (3, 4, 6, 3), "width": 2, "expansion": 2}
    config = evaluation(network, WIDE_IMAGENET)
    config.images.update(IMAGENET)
    config.substitute.keep = ("stem",)
    config.teacher.taps = tuple((f"group_{number}",) * 2 for number in (1, 2, 3, 4))
    config.data.update(STREAMED)
    return config


def xnor_resnet18(width: int = 96, weight_decay: float = 0.0) -> ConfigDict:
    """The XNOR-ResNet18 on CIFAR-10."""
    network = {"name": "xnor_resnet", "width": width, "gradient": "clipped", "depths": (2, 2, 2, 2)}
    config = evaluation(network, XNOR)
    config.recipe.weight_decay = weight_decay
    config.teacher.taps = ()
    return config


def chosen(row: str, rows: dict[str, Any]) -> Any:
    """What belongs to a row of an experiment; an unknown one is a mistake that names the rows there are."""
    if row not in rows:
        raise UserError(f"there is no row {row!r}; the rows are {', '.join(rows)}.")
    return rows[row]


def small(config: ConfigDict) -> ConfigDict:
    """The same experiment on the bundled digits, by a network and for a time that two CPU cores do in minutes."""
    config.images.update(DIGITS)
    config.data.update({"name": "digits", "path": "", "streamed": False, "crop_padding": 1, "flip": False})
    config.data.cutout = 2 if config.data.cutout else 0
    config.recipe.update({"epochs": 15, "batch_size": 64, "decay_epochs": ()})
    config.recipe.schedule = "cosine"
    config.network.update(SMALL[config.network.name])
    config.teacher.attention = 10.0  # maps of fewer pixels differ more in each
    if config.network.name == "cells":
        config.teacher.taps = (("cell_1", "cell_1"), ("cell_2", "cell_2"), ("cell_3", "cell_3"))
        config.recipe.drop_path = 0.0
    config.checkpoint.every_seconds = 30.0
    return config


SMALL = {
    "cells": {"channels": 8, "layers": 4, "auxiliary": False, "stem": "cifar"},
    "wide_resnet": {"depth": 10, "width": 1},
    "bottleneck_resnet": {"depths": (1, 1, 1, 1), "width": 1},
    "xnor_resnet": {"width": 16},
}
