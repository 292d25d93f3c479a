"""Every method for chains of blocks in NAS-Bench-Macro's space on CIFAR-10, judged by the true accuracies of its table.

The table (Su et al. 2021) is a CSV file of 6561 lines, architecture,test_accuracy_mean,..., that is not part of this
project. A few thousand images are enough for a search of minutes; they come in an npz file.

Command: python launch/compare.py --config=configs/compare/macro_cifar10.py --workdir=runs/compare_macro
    --config.table.path=nas_bench_macro.csv --config.base.data.path=cifar10_4000.npz
Expected time: About 50 minutes on one CPU core.
Expected result: ProxylessNAS 92.60 % ± 0.40, FBNet 92.59 % ± 0.17 and SNAS 92.36 % ± 1.03 of true accuracy; a random
    chain 90.99 % ± 1.25, random search 89.74 % ± 0.72; the best chain of the table has 93.13 % (docs/results.md).
"""

from configs.compare.common import chain_methods, comparison
from configs.search import common, spaces

EPOCHS = 12
# A quarter of the channels: the supernet only has to tell the 6561 strings apart.
NARROW = {**spaces.NAS_BENCH_MACRO, "stem": 8, "widths": (16, 32, 64), "head": 320}


def get_config():
    base = common.cifar10(NARROW)
    base.epochs = EPOCHS
    base.batch_size = 64
    base.num_seeds = 3
    base.data.name = "npz"
    base.retrain.epochs = 0  # the table says what they reach
    config = comparison(
        "Which method finds the best chain of NAS-Bench-Macro?", base, chain_methods(EPOCHS, candidates=4)
    )
    config.table.metric = "test_accuracy_mean"
    config.ranking.architectures = 50
    config.ranking.images = 512
    return config
