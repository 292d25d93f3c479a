"""P-DARTS on CIFAR-10, at the settings of Chen, Xie, Wu & Tian 2019: three stages of 25 epochs.

Command: python launch/search.py --config=configs/search/p_darts_cifar10.py \
    --workdir=runs/p_darts_cifar10 --config.data.path=DIR
Expected time: 75 epochs in three stages, up to 17 cells deep; not yet measured, an accelerator is advisable.
Expected result: Chen et al. report 2.50 % test error; not yet reproduced here.
"""

from configs.search import common


def get_config():
    config = common.cifar10()
    config.method = common.p_darts()
    config.epochs = 75
    config.batch_size = 96
    config.retrain.drop_path = 0.3
    return config
