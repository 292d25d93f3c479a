"""SPOS on CIFAR-10, in the space of ProxylessNAS at 32×32.

Command: python launch/search.py --config=configs/search/spos_cifar10.py \
    --workdir=runs/spos_cifar10 --config.data.path=DIR
Expected time: 120 epochs of a single path and 1000 evaluations; not yet measured, an accelerator is advisable.
Expected result: No published figure for CIFAR-10: 74.3 % top-1 on ImageNet in the paper's own space (Guo et al. 2020).
"""

from configs.search import common, spaces


def get_config():
    config = common.cifar10(spaces.PROXYLESSNAS_32)
    config.method = common.spos()
    config.epochs = 120
    config.batch_size = 96
    config.data.train_fraction = 0.9
    return config
