"""All subnets of a small elastic network trained together from the first step on, and search by prediction, on digits.

Command: python launch/search.py --config=configs/search/joint_digits.py --workdir=runs/joint_digits
Expected time: About 2 minutes and a half on one CPU core, half of it compiling.
Expected result: 94.44 % on the test split with the shared weights and 46,162 parameters; a random architecture 93.61 %
    (seed 0). After training, the smallest, a middle and the largest subnet have 86.9, 93.7 and 93.5 % on the half that
    validates.
"""

from configs.search import common, spaces


def get_config():
    config = common.digits(spaces.ELASTIC_8)
    config.method = common.joint()
    config.method.update({**common.SHORT_PREDICTION, "calibrate": 64})
    config.epochs = 29  # as many subnets as once_for_all_digits trains
    config.retrain.epochs = 0  # what was found has its weights
    return config
