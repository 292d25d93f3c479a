"""How the ranking by shared weights changes with the length of their training.

Command: python launch/compare.py --config=configs/compare/ranking_over_time.py --workdir=runs/ranking_over_time
    --config.table.path=nas_bench_macro.csv --config.base.data.path=cifar10_4000.npz
Expected time: About 30 minutes on one CPU core (51 beside other work).
Expected result: τ rises from -0.01 after 3 epochs to 0.18 after 12 and 0.27 after 48 (docs/results.md).
"""

from configs.compare.common import comparison, narrow_macro
from configs.search import common

EPOCHS = (3, 6, 12, 24, 48)


def get_config():
    method = common.spos()
    method.update({"calibrate": 0, **common.SHORT_EVOLUTION})
    methods = {f"epochs_{epochs}": method.copy_and_resolve_references() for epochs in EPOCHS}
    config = comparison("Does a longer training of shared weights rank better?", narrow_macro(epochs=12), methods)
    for epochs in EPOCHS:
        config.methods[f"epochs_{epochs}"].epochs = epochs
    config.equal_budget = False  # the budget is the question
    config.table.metric = "test_accuracy_mean"
    config.ranking.update({"architectures": 50, "images": 512})
    return config
