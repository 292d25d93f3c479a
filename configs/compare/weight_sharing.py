"""How well weights rank elastic networks that share them by paths, superkernels, slices or a hypernetwork, or in parts.

Command: python launch/compare.py --config=configs/compare/weight_sharing.py --workdir=runs/weight_sharing
    --config.base.data.path=cifar10_4000.npz
Expected time: About 3 hours on one CPU core.
Expected result: Kendall's τ with 24 networks trained by themselves, of one seed: once_for_all 0.51, smash 0.49, slices
    0.26, superkernel 0.12, paths 0.11, few_shot -0.10, each ± 0.2 to 0.3 (docs/weight_sharing.md).
"""

from configs.compare.common import comparison
from configs.search import common, spaces

EPOCHS = 24
# Three stages of at most three blocks, small enough that two dozen of them can be trained by themselves in an hour.
SPACE = {
    **spaces.ELASTIC,
    "widths": (16, 24, 40),
    "strides": (1, 2, 2),
    "squeeze": (False, True, True),
    "hard_swish": (False, True, True),
    "final": 160,
    "head": 160,
    "expansions": (2.0, 3.0, 4.0),
    "depths": (1, 2, 3),
    "resolutions": (24, 32),
}
TRAINING = {"weights_learning_rate": 0.05, "weights_final_learning_rate": 0.0, "weight_decay": 3e-4, "clip": 5.0}
# Progressive shrinking in as many epochs, warm-up included: 8, 4, 1, 4, 1 and 6.
SHRINKING = {
    "kernel_epochs": 3,
    "depth_epochs": (1, 3),
    "width_epochs": (1, 5),
    "warmup_epochs": 1,
    "depth_learning_rates": (0.01, 0.02),
    "width_learning_rates": (0.01, 0.02),
}
SHORT_SMASH = {"samples": 80, "perturbations": 20, "markov": 0}


def base():
    config = common.cifar10(SPACE)
    config.update({"epochs": EPOCHS, "batch_size": 64})
    config.data.update({"name": "npz", "train_fraction": 0.75})
    config.retrain.update({"epochs": 20, "batch_size": 64, "learning_rate": 0.05, "cutout": 0, "drop_path": 0.0})
    config.retrain.random_baseline = False
    return config


def get_config():
    # {label: (what is shared, the method, its own settings)}
    searches = {
        "paths": ("paths", common.spos(), common.SHORT_EVOLUTION),
        "superkernel": ("superkernel", common.spos(), common.SHORT_EVOLUTION),
        "slices": ("slices", common.spos(), common.SHORT_EVOLUTION),
        "once_for_all": ("slices", common.once_for_all(), {**SHRINKING, **common.SHORT_PREDICTION}),
        "smash": ("generated", common.smash(), SHORT_SMASH),
        "few_shot": ("paths", common.few_shot(), {"member_epochs": EPOCHS // 2, **common.SHORT_EVOLUTION}),
    }
    for _, method, settings in searches.values():
        method.update({**settings, **TRAINING, "calibrate": 128})
    methods = {label: method for label, (_, method, _) in searches.items()}
    config = comparison("Which way to share weights ranks elastic networks best?", base(), methods)
    for label, (sharing, _, _) in searches.items():
        config.methods[label].supernet = {"sharing": sharing}
    config.methods.once_for_all.epochs = 8
    config.methods.few_shot.epochs = EPOCHS // 2
    config.ranking.architectures = 24
    return config
