"""Once-for-All on the bundled digits: a small network shrinks in kernel, depth and width; search by prediction.

Command: python launch/search.py --config=configs/search/once_for_all_digits.py --workdir=runs/once_for_all_digits
Expected time: About 5 minutes on one CPU core, more than half of it compiling.
Expected result: 95.83 % on the test split with the shared weights and 32,426 parameters; a random architecture 95.83 %
    (seed 0). After training, the smallest, a middle and the largest subnet have 84.6, 90.0 and 90.4 % on the half that
    validates.
"""

from configs.search import common, spaces


def get_config():
    config = common.digits(spaces.ELASTIC_8)
    config.method = common.once_for_all()
    short = {"kernel_epochs": 10, "depth_epochs": (3, 10), "width_epochs": (3, 10), "warmup_epochs": 1}
    config.method.update({**short, **common.SHORT_PREDICTION, "calibrate": 64})
    config.epochs = 20
    config.retrain.epochs = 0  # what was found has its weights
    return config
