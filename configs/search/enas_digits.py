"""ENAS in its macro space on the bundled digits.

Command: python launch/search.py --config=configs/search/enas_digits.py --workdir=runs/enas_digits
Expected time: About 2 minutes on two CPU cores, most of it compiling (estimated from a run on a busy machine).
Expected result: 96.4 % retrained; a random architecture reaches 94.4 % (seed 0).
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
