"""GDAS on CIFAR-10, at the settings of Dong & Yang 2019.

Weights of operations that a step did not draw stay as they are, momentum and decay included.

Command: python launch/search.py --config=configs/search/gdas_cifar10.py \
    --workdir=runs/gdas_cifar10 --config.data.path=DIR
Expected time: 1.5 s a step, so 40 hours of search, on one CPU core (measured by the step); the 600 epochs of
    training afterwards take an accelerator. Not yet run in full on one.
Expected result: Dong & Yang report 2.93 % test error; not yet reproduced here.
"""

from configs.search import common


def get_config():
    config = common.cifar10()
    config.method = common.gdas()
    config.epochs = 250
    return config
