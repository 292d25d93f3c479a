"""ENAS on CIFAR-10 in its macro space, at the settings of Pham et al. 2018, nine tenths of the data for the weights.

Command: python launch/search.py --config=configs/search/enas_cifar10.py \
    --workdir=runs/enas_cifar10 --config.data.path=DIR
Expected time: 310 epochs of one path; not yet measured, an accelerator is advisable.
Expected result: Pham et al. report 4.23 % test error for the macro space; not yet reproduced here.
"""

from configs.search import common, spaces


def get_config():
    config = common.cifar10(spaces.ENAS_MACRO)
    config.method = common.enas()
    config.epochs = 310
    config.data.train_fraction = 0.9
    return config
