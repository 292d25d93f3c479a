"""How well shared weights rank chains, against the number of choices at which the supernet is split (Zhao et al. 2021).

Command: python launch/compare.py --config=configs/compare/few_shot_splits.py --workdir=runs/few_shot_splits
    --config.table.path=nas_bench_macro.csv --config.base.data.path=cifar10_4000.npz
Expected time: About 90 minutes on one CPU core (59 for one seed beside other work).
Expected result: τ of 0.19, 0.24 and 0.36 with 1, 3 and 9 sub-supernets, of one seed (docs/results.md).
"""

from configs.compare.common import comparison, narrow_macro
from configs.search import common

SPLITS = (0, 1, 2)  # 1, 3 and 9 sub-supernets


def get_config():
    methods = {}
    for splits in SPLITS:
        method = common.few_shot()
        method.update({"splits": splits, "member_epochs": 6, **common.SHORT_EVOLUTION})
        methods[f"splits_{splits}"] = method
    config = comparison("Does splitting a supernet improve its ranking?", narrow_macro(epochs=12), methods)
    config.table.metric = "test_accuracy_mean"
    config.ranking.update({"architectures": 50, "images": 512})
    return config
