"""Random search with weight sharing on CIFAR-10, in the space of DARTS.

Command: python launch/search.py --config=configs/search/random_nas_cifar10.py \
    --workdir=runs/random_nas_cifar10 --config.data.path=DIR
Expected time: 150 epochs of a single path and 20 evaluations of the validation half; not yet measured.
Expected result: Li & Talwalkar report 2.85 ± 0.08 % test error with six seeds; not yet reproduced here.
"""

from configs.search import common


def get_config():
    config = common.cifar10()
    config.method = common.random_nas()
    config.epochs = 150
    return config
