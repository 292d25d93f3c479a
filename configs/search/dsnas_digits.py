"""DSNAS on the bundled digits.

Command: python launch/search.py --config=configs/search/dsnas_digits.py --workdir=runs/dsnas_digits
Expected time: 2 minutes on one busy CPU core, most of it compiling.
Expected result: 89.2 % on the test split with the weights of the supernet, 37.8 % for a random cell (seed 0).
"""

from configs.search import common


def get_config():
    config = common.digits()
    config.method = common.dsnas()
    config.epochs = 60  # one operation per edge learns in a step, so it takes more of them
    config.method.update(common.SHORT_LOGITS)
    config.retrain.epochs = 0  # the child keeps the weights of the supernet
    return config
