"""FairNAS on CIFAR-10, in the space of ProxylessNAS at 32×32: a front of error and mult-adds.

Command: python launch/search.py --config=configs/search/fairnas_cifar10.py \
    --workdir=runs/fairnas_cifar10 --config.data.path=DIR
Expected time: 150 epochs of seven paths a step and 1000 evaluations; not yet measured, an accelerator is advisable.
Expected result: No published figure for CIFAR-10: 75.3 % top-1 on ImageNet for FairNAS-A (Chu et al. 2019).
"""

from configs.search import common, spaces


def get_config():
    config = common.cifar10(spaces.PROXYLESSNAS_32)
    config.method = common.fairnas()
    config.epochs = 150
    config.batch_size = 96
    config.data.train_fraction = 0.9
    config.cost.name = "mult_adds"
    config.cost.penalty = {"name": "relative", "weight": 0.01, "reference": 1e8}  # chooses on the front
    return config
