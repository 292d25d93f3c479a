"""All strategies on a table made of a formula: 3^6 architectures whose neighbouring choices depend on each other.

Command: python launch/tabular.py --config=configs/tabular/toy.py --workdir=runs/tabular_toy
Expected time: 80 seconds of one CPU core, most of it compiling.
Expected result: Evolution finds the best in all repetitions, random search in 34 %, PPO in 55 %.
"""

from configs.tabular import common

SYNTHETIC = {"name": "synthetic", "choices": 6, "options": 3, "interactions": 0.5, "seed": 0}


def get_config():
    config = common.tabular("Which strategy finds the best of 729 architectures?", SYNTHETIC, common.STRATEGIES)
    config.evaluations = 300
    config.table.noise = 0.02
    config.cost.update({"name": "column", "column": "cost"})
    return config
