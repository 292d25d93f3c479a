"""PC-DARTS on CIFAR-10, at the settings of Xu et al. 2020.

Command: python launch/search.py --config=configs/search/pc_darts_cifar10.py \
    --workdir=runs/pc_darts_cifar10 --config.data.path=DIR
Expected time: 50 epochs of batches of 256 on a quarter of the channels; not yet measured, an accelerator is advisable.
Expected result: Xu et al. report 2.57 ± 0.07 % test error; not yet reproduced here.
"""

from configs.search import common


def get_config():
    config = common.cifar10()
    config.method = common.pc_darts()
    config.batch_size = 256
    return config
