"""Single-Path NAS on CIFAR-10, in its paper's ImageNet space at 32×32.

Command: python launch/search.py --config=configs/search/single_path_cifar10.py \
    --workdir=runs/single_path_cifar10 --config.data.path=DIR
Expected time: 8 epochs of one masked network; not yet measured, an accelerator is advisable.
Expected result: No published figure for CIFAR-10: 74.96 % top-1 on ImageNet (Stamoulis et al. 2019).
"""

from configs.search import common, spaces


def get_config():
    config = common.cifar10(spaces.SINGLE_PATH_32)
    config.method = common.single_path()
    config.epochs = 8
    config.batch_size = 128
    config.cost.name = "mult_adds"
    config.cost.penalty.reference = 1e8
    return config
