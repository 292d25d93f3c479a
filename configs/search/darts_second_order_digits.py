"""Second-order DARTS on the bundled digits.

Command: python launch/search.py --config=configs/search/darts_second_order_digits.py \\
    --workdir=runs/darts_second_order_digits
Expected time: about 4 minutes on one CPU core, half of it compiling.
Expected result: About 98 % on the test split, within a point of a random architecture (seed 0).
"""

from configs.search import common


def get_config():
    config = common.digits()
    config.method = common.darts(order=2)
    config.method.update(common.SHORT_LOGITS)
    return config
