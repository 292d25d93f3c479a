"""First-order DARTS on CIFAR-10, at the settings of Liu, Simonyan & Yang 2019.

Command: python launch/search.py --config=configs/search/darts_cifar10.py \\
    --workdir=runs/darts_cifar10 --config.data.path=DIR
Expected time: TIME
Expected result: RESULT
"""

from configs.search import common


def get_config():
    config = common.cifar10()
    config.method = common.darts(order=1)
    return config
