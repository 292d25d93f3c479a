"""The sandwich rule on the bundled digits: the largest, the smallest and two subnets a step, and search by prediction.

Command: python launch/search.py --config=configs/search/sandwich_digits.py --workdir=runs/sandwich_digits
Expected time: About 5 minutes on two CPU cores, a third of it compiling.
Expected result: 94.44 % on the test split with the shared weights and 40,930 parameters; a random architecture 89.44 %
    (seed 0). After training, the smallest, a middle and the largest subnet have 85.1, 84.8 and 90.8 % on the half that
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
