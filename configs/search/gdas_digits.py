"""GDAS on the bundled digits.

Command: python launch/search.py --config=configs/search/gdas_digits.py --workdir=runs/gdas_digits
Expected time: about 4 minutes on one CPU core, two thirds of it compiling.
Expected result: About 98 % on the test split, within a point of a random architecture (seed 0).
"""

from configs.search import common


def get_config():
    config = common.digits()
    config.method = common.gdas()
    config.epochs = 60  # one operation per edge learns in a step, so it takes more of them
    config.method.temperature = 5.0
    config.method.update(common.SHORT_LOGITS)
    return config
