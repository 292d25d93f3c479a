"""First-order DARTS on CIFAR-10, at the settings of Liu, Simonyan & Yang 2019.

Command: python launch/search.py --config=configs/search/darts_cifar10.py \
    --workdir=runs/darts_cifar10 --config.data.path=DIR
Expected time: 7.6 s a step, so 41 hours of search, on one CPU core (measured by the step); the 600 epochs of
    training afterwards take an accelerator. Not yet run in full on one.
Expected result: Liu et al. report 3.00 ± 0.14 % test error for first order; not yet reproduced here.
"""

from configs.search import common


def get_config():
    config = common.cifar10()
    config.method = common.darts(order=1)
    return config
