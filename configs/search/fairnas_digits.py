"""FairNAS on the bundled digits: a front of error and mult-adds.

Command: python launch/search.py --config=configs/search/fairnas_digits.py --workdir=runs/fairnas_digits
Expected time: About 2 minutes on one CPU core, most of it compiling.
Expected result: 96.7 % on the test split with 154,304 mult-adds, a random architecture 96.4 % (seed 0).
"""

from configs.search import common, spaces


def get_config():
    config = common.digits(spaces.FBNET_8)
    config.method = common.fairnas()
    config.method.rounds = 5
    config.method.population = 20
    config.method.calibrate = 64
    config.epochs = 40
    config.cost.name = "mult_adds"
    config.cost.penalty = {"name": "relative", "weight": 0.02, "reference": 90_000}  # chooses on the front
    return config
