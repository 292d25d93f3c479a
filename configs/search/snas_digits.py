"""SNAS on the bundled digits.

Command: python launch/search.py --config=configs/search/snas_digits.py --workdir=runs/snas_digits
Expected time: TODO 0 minutes on two CPU cores.
Expected result: TODO.
"""

from configs.search import common


def get_config():
    config = common.digits()
    config.method = common.snas()
    config.method.update(common.SHORT_LOGITS)
    return config
