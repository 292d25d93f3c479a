"""Second-order DARTS on CIFAR-10, at the settings of Liu, Simonyan & Yang 2019.

Command: python launch/search.py --config=configs/search/darts_second_order_cifar10.py \
    --workdir=runs/darts_second_order_cifar10 --config.data.path=DIR
Expected time: about 4 times darts_cifar10.py; the 600 epochs of training take an accelerator. Not yet run in full.
Expected result: Liu et al. report 2.76 ± 0.09 % test error for second order; not yet reproduced here.
"""

from configs.search import common


def get_config():
    config = common.cifar10()
    config.method = common.darts(order=2)
    return config
