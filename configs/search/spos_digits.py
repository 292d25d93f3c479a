"""SPOS on the bundled digits, within a limit of mult-adds that half of the architectures keep.

Command: python launch/search.py --config=configs/search/spos_digits.py --workdir=runs/spos_digits
Expected time: About 2 minutes on one CPU core, most of it compiling.
Expected result: 91.1 % on the test split with 87,488 mult-adds; a random architecture of any cost 96.4 % (seed 0).
"""

from configs.search import common, spaces


def get_config():
    config = common.digits(spaces.FBNET_8)
    config.method = common.spos()
    config.method.rounds = 5
    config.method.population = 20
    config.method.parents = 5
    config.method.mutants = 10
    config.method.crossovers = 10
    config.method.calibrate = 64
    config.epochs = 100
    config.cost.name = "mult_adds"
    config.cost.limit = 90_000
    config.cost.penalty = {"name": "relative", "weight": 0.0, "reference": 90_000}  # the accuracy alone is the reward
    return config
