"""How the ranking by shared weights changes with the length of their training.

Command: python launch/compare.py --config=configs/compare/ranking_over_time.py --workdir=runs/ranking_over_time
    --config.table.path=nas_bench_macro.csv --config.base.data.path=cifar10_4000.npz
Expected time: About 40 minutes on two CPU cores (estimated from one of its searches).
Expected result: Not yet run in full; τ is at most 1, and 0.06 to 0.18 for the single paths of macro_cifar10.py.
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
