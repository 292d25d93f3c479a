"""GDAS on the bundled digits.

Command: python launch/search.py --config=configs/search/gdas_digits.py --workdir=runs/gdas_digits
Expected time: TIME
Expected result: RESULT
"""

from configs.search import common


def get_config():
    config = common.digits()
    config.method = common.gdas()
    config.method.update(common.SHORT_LOGITS)
    return config
