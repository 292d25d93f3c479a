"""FBNetV2 on CIFAR-10, in its paper's ImageNet space at 32×32, sizes of the images included.

Command: python launch/search.py --config=configs/search/fbnet_v2_cifar10.py \
    --workdir=runs/fbnet_v2_cifar10 --config.data.path=DIR
Expected time: 90 epochs of one masked network at three image sizes; not yet measured, an accelerator is advisable.
Expected result: No published figure for CIFAR-10: 68.3 to 77.2 % top-1 on ImageNet (Wan et al. 2020).
"""

from configs.search import common, spaces


def get_config():
    config = common.cifar10(spaces.FBNET_V2_32)
    config.method = common.fbnet_v2()
    config.epochs = 90
    config.batch_size = 256
    config.data.train_fraction = 0.8
    config.cost.name = "mult_adds"
    config.cost.penalty.reference = 1e8
    return config
