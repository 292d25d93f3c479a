"""A search by prediction on the bundled digits: 200 of 3,456 architectures are measured, a predictor tells of the rest.

Command: python launch/search.py --config=configs/search/predicted_digits.py --workdir=runs/predicted_digits
Expected time: About 3 minutes on one CPU core, most of it compiling.
Expected result: 95.8 % on the test split with 149,120 mult-adds; a random architecture of any cost 97.5 %. Kendall's τ
    of 40 held-out predictions is 0.56 (seed 0).
"""

from configs.search import common, spaces


def get_config():
    config = common.digits(spaces.SINGLE_PATH_8)
    config.method = common.predicted()
    config.method.update(common.SHORT_PREDICTION)
    config.method.calibrate = 64
    config.epochs = 100
    config.cost.name = "mult_adds"
    config.cost.limit = 150_000
    config.cost.penalty = {"name": "relative", "weight": 0.0, "reference": 150_000}  # the accuracy alone is the reward
    return config
