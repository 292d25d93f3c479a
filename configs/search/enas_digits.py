"""ENAS in its macro space on the bundled digits.

Command: python launch/search.py --config=configs/search/enas_digits.py --workdir=runs/enas_digits
Expected time: About 3 minutes on two CPU cores, most of it compiling (an estimate).
Expected result: Not yet run in full (seed 0).
"""

from configs.search import common, spaces


def get_config():
    config = common.digits(spaces.ENAS_MACRO_8)
    config.method = common.enas()
    config.method.samples = 5
    config.method.every = 2
    config.epochs = 30
    config.method.logits_learning_rate = 0.01
    return config
