"""Every method that trains shared weights by sampled paths, with and without calibration: how well do they rank chains?

Command: python launch/compare.py --config=configs/compare/sampled_macro.py --workdir=runs/sampled_macro
    --config.table.path=nas_bench_macro.csv --config.base.data.path=cifar10_4000.npz
Expected time: About 70 minutes on one CPU core.
Expected result: 91.99 % ± 0.38 of true accuracy for One-Shot, 91.86 % ± 0.47 for SPOS, 91.49 % ± 0.74 for FairNAS and
    90.95 % ± 0.48 for RandomNAS, 0.1 to 0.7 points more with calibration (docs/results.md).
"""

from configs.compare.common import comparison, narrow_macro
from configs.search import common

CALIBRATE = (0, 128)  # training images whose statistics normalise; 0: each validation batch by its own


def get_config():
    published = {
        "random_nas": (common.random_nas(), {"candidates": 100}),
        "one_shot": (common.one_shot(), {"candidates": 50}),
        "spos": (common.spos(), common.SHORT_EVOLUTION),
        "fairnas": (common.fairnas(), {"rounds": 5, "population": 20}),
    }
    methods = {}
    for name, (method, short) in published.items():
        for calibrate in CALIBRATE:
            own = method.copy_and_resolve_references()
            own.update({**short, "calibrate": calibrate})
            methods[f"{name}_calibrated" if calibrate else name] = own
    config = comparison("How well do sampled paths teach shared weights to rank?", narrow_macro(epochs=12), methods)
    config.table.metric = "test_accuracy_mean"
    config.ranking.update({"architectures": 50, "images": 512})
    return config
