"""First-order DARTS on the bundled digits: the quickstart.

Command: python launch/search.py --config=configs/search/darts_digits.py --workdir=runs/darts_digits
Expected time: TIME
Expected result: RESULT
"""

from configs.search import common


def get_config():
    config = common.digits()
    config.method = common.darts(order=1)
    config.method.update(common.SHORT_LOGITS)
    return config
