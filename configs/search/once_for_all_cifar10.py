"""Once-for-All on CIFAR-10: MobileNetV3 at 32×32, shrinking in kernel, depth and width, and search by prediction.

Command: python launch/search.py --config=configs/search/once_for_all_cifar10.py \
    --workdir=runs/once_for_all_cifar10 --config.data.path=DIR
Expected time: The published 180 epochs of one network and 425 of one to four subnets; not yet measured, an accelerator
    is needed.
Expected result: No published figure for CIFAR-10: 76.0 % top-1 on ImageNet with 230M mult-adds, not trained again.
"""

from configs.search import common, spaces


def get_config():
    config = common.cifar10(spaces.ELASTIC_32)
    config.method = common.once_for_all()
    config.epochs = 180
    config.data.train_fraction = 0.9
    config.retrain.epochs = 0  # what was found has its weights
    return config
