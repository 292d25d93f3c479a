"""Random search on CIFAR-10: 24 architectures of 100 epochs each, as Liu, Simonyan & Yang 2019 did.

Command: python launch/search.py --config=configs/search/random_cifar10.py \\
    --workdir=runs/random_cifar10 --config.data.path=DIR
Expected time: TIME
Expected result: RESULT
"""

from configs.search import common


def get_config():
    config = common.cifar10()
    config.method = common.random_search(candidates=24)
    config.epochs = 2400
    return config
