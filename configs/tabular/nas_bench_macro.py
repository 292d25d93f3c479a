"""All strategies on the table of NAS-Bench-Macro: 6561 chains and the accuracies of their networks on CIFAR-10.

The table (Su et al. 2021) is a CSV file, architecture,test_accuracy_mean,test_accuracy_1,...,params,macs, that is not
part of this project.

Command: python launch/tabular.py --config=configs/tabular/nas_bench_macro.py --workdir=runs/tabular_macro
    --config.table.path=nas_bench_macro.csv
Expected time: 2.5 minutes of one CPU core, a minute of it for reinforce_lstm and half of it compiling.
Expected result: Evolution, ageing, PPO and REINFORCE find a best chain, 93.13 %, in 99 to 100 % of the
    repetitions, random search in 24 %; what REINFORCE and PPO derive is 0.15 points worse. See docs/tabular.md.
"""

from configs.search import spaces
from configs.tabular import common


def get_config():
    config = common.tabular(
        "Which strategy finds the best chain of NAS-Bench-Macro?", spaces.NAS_BENCH_MACRO, common.STRATEGIES
    )
    config.table.update({"metric": "test_accuracy_mean", "scale": 0.01, "noise": 0.01})
    config.cost.update({"name": "column", "column": "params"})
    return config
