"""SNAS on CIFAR-10, in the space of DARTS, at the settings of Xie, Zheng, Liu & Lin 2019.

Command: python launch/search.py --config=configs/search/snas_cifar10.py \
    --workdir=runs/snas_cifar10 --config.data.path=DIR
Expected time: 150 epochs of the whole mixture, about as long a step as darts_cifar10.py; not yet measured.
Expected result: Xie et al. report 2.85 ± 0.02 % test error; not yet reproduced here.
"""

from configs.search import common


def get_config():
    config = common.cifar10()
    config.method = common.snas()
    config.epochs = 150
    return config
