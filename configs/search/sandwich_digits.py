"""The sandwich rule on the bundled digits: the largest, the smallest and two subnets a step, and search by prediction.

Command: python launch/search.py --config=configs/search/sandwich_digits.py --workdir=runs/sandwich_digits
Expected time: About 2 minutes and a half on one CPU core, half of it compiling.
Expected result: 90.28 % on the test split with the shared weights and 29,850 parameters; a random architecture 88.33 %
    (seed 0). After training, the smallest, a middle and the largest subnet have 80.8, 81.5 and 83.7 % on the half that
    validates.
"""

from configs.search import common, spaces


def get_config():
    config = common.digits(spaces.ELASTIC_8)
    config.method = common.sandwich()
    config.method.update({**common.SHORT_PREDICTION, "calibrate": 64})
    config.epochs = 29  # as many subnets as once_for_all_digits trains
    config.retrain.epochs = 0  # what was found has its weights
    return config
