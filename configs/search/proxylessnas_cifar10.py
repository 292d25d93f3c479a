"""ProxylessNAS-G on CIFAR-10, in the chain of its paper's ImageNet space at 32×32.

Command: python launch/search.py --config=configs/search/proxylessnas_cifar10.py \
    --workdir=runs/proxylessnas_cifar10 --config.data.path=DIR
Expected time: 160 epochs of one path and, after 40, two; not yet measured, an accelerator is advisable.
Expected result: The paper's 2.08 % on CIFAR-10 is of another space (PyramidNet); no published figure for this one.
"""

from configs.search import common, spaces


def get_config():
    config = common.cifar10(spaces.PROXYLESSNAS_32)
    config.method = common.proxylessnas()
    config.epochs = 160
    config.batch_size = 256
    config.cost.name = "mult_adds"
    config.cost.penalty.reference = 1e8
    return config
