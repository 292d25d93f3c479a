"""First-order DARTS on the bundled digits: the quickstart.

Command: python launch/search.py --config=configs/search/darts_digits.py --workdir=runs/darts_digits
Expected time: 100 seconds on two CPU cores, 70 of them compiling.
Expected result: 98.1 % on the test split, 97.5 % for a random architecture (seed 0). The digits are easy: most
    cells come within a point of each other, and a difference takes many seeds to see.
"""

from configs.search import common


def get_config():
    config = common.digits()
    config.method = common.darts(order=1)
    config.method.update(common.SHORT_LOGITS)
    return config
