"""FBNet on CIFAR-10, in its paper's ImageNet space at 32×32.

Command: python launch/search.py --config=configs/search/fbnet_cifar10.py \
    --workdir=runs/fbnet_cifar10 --config.data.path=DIR
Expected time: 90 epochs of a mixture of nine blocks; not yet measured, an accelerator is advisable.
Expected result: No published figure for CIFAR-10: 74.1 % top-1 on ImageNet for FBNet-B (Wu et al. 2019).
"""

from configs.search import common, spaces


def get_config():
    config = common.cifar10(spaces.FBNET_32)
    config.method = common.fbnet()
    config.epochs = 90
    config.batch_size = 192
    config.data.train_fraction = 0.8
    config.cost.name = "mult_adds"
    config.cost.penalty = {"name": "log_power", "alpha": 0.2, "beta": 0.6}
    return config
