"""MDENAS on the bundled digits.

Command: python launch/search.py --config=configs/search/mdenas_digits.py --workdir=runs/mdenas_digits
Expected time: About 2 minutes on two CPU cores.
Expected result: 96.39 % for the chain found, and for a random one (seed 0).
"""

from configs.search import common, spaces


def get_config():
    config = common.digits(spaces.PROXYLESSNAS_8)
    config.method = common.mdenas()
    config.method.distribution_learning_rate = 0.1
    config.epochs = 30
    return config
