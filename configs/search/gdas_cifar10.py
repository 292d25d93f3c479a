"""GDAS on CIFAR-10, at the settings of Dong & Yang 2019.

Command: python launch/search.py --config=configs/search/gdas_cifar10.py \\
    --workdir=runs/gdas_cifar10 --config.data.path=DIR
Expected time: TIME
Expected result: RESULT
"""

from configs.search import common


def get_config():
    config = common.cifar10()
    config.method = common.gdas()
    config.epochs = 250
    return config
