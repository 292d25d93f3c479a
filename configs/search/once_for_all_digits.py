"""Once-for-All on the bundled digits: a small network shrinks in kernel, depth and width; search by prediction.

Command: python launch/search.py --config=configs/search/once_for_all_digits.py --workdir=runs/once_for_all_digits
Expected time: Not yet measured; about 10 minutes on two CPU cores.
Expected result: Not yet measured; above 90 %.
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
