"""How well One-Shot's shared weights rank chains, against the rate of its path dropout (Bender et al. 2018).

Command: python launch/compare.py --config=configs/compare/one_shot_dropout.py --workdir=runs/one_shot_dropout
    --config.table.path=nas_bench_macro.csv --config.base.data.path=cifar10_4000.npz
Expected time: About 60 minutes on one CPU core (24 for one seed beside other work).
Expected result: τ of 0.57 at a rate of 0.1 and from 0.34 to 0.44 at the others, of one seed (docs/results.md).
"""

from configs.compare.common import comparison, narrow_macro
from configs.search import common

RATES = (0.0, 0.1, 0.3, 0.6, 0.9)


def get_config():
    methods = {}
    for rate in RATES:
        method = common.one_shot()
        method.dropout, method.candidates = rate, 50
        methods[f"dropout_{round(100 * rate)}"] = method
    config = comparison("How does path dropout change One-Shot's ranking?", narrow_macro(epochs=12), methods)
    config.table.metric = "test_accuracy_mean"
    config.ranking.update({"architectures": 50, "images": 512})
    return config
