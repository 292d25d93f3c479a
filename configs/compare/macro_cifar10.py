"""Every method for chains of blocks in NAS-Bench-Macro's space on CIFAR-10, judged by the true accuracies of its table.

The table (Su et al. 2021) is a CSV file of 6561 lines, architecture,test_accuracy_mean,..., that is not part of this
project. A few thousand images are enough for a search of minutes; they come in an npz file.

Command: python launch/compare.py --config=configs/compare/macro_cifar10.py --workdir=runs/compare_macro
    --config.table.path=nas_bench_macro.csv --config.base.data.path=cifar10_4000.npz
Expected time: About 50 minutes on one CPU core.
Expected result: ProxylessNAS 92.60 % ± 0.40, FBNet 92.59 % ± 0.17 and SNAS 92.36 % ± 1.03 of true accuracy; a random
    chain 90.99 % ± 1.25, random search 89.74 % ± 0.72; the best chain of the table has 93.13 % (docs/results.md).
"""

from configs.compare.common import chain_methods, comparison, narrow_macro

EPOCHS = 12


def get_config():
    methods = chain_methods(EPOCHS, candidates=4)
    config = comparison("Which method finds the best chain of NAS-Bench-Macro?", narrow_macro(EPOCHS), methods)
    config.table.metric = "test_accuracy_mean"
    config.ranking.update({"architectures": 50, "images": 512})
    return config
