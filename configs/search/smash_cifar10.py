"""SMASH on CIFAR-10, in a space of twelve operations on memory banks, nine tenths of the data for the weights.

Command: python launch/search.py --config=configs/search/smash_cifar10.py \
    --workdir=runs/smash_cifar10 --config.data.path=DIR
Expected time: 100 epochs of one path and 700 evaluations; not yet measured, an accelerator is advisable.
Expected result: Brock et al. report 5.53 % test error for their larger space of memory banks; not yet reproduced here.
"""

from configs.search import common, spaces


def get_config():
    config = common.cifar10(spaces.MEMORY_BANKS)
    config.method = common.smash()
    config.method.weights_learning_rate = 0.1
    config.epochs = 100
    config.data.train_fraction = 0.9
    return config
