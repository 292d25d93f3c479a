"""Random search on CIFAR-10: 24 architectures of 100 epochs each, as Liu, Simonyan & Yang 2019 did.

Command: python launch/search.py --config=configs/search/random_cifar10.py \
    --workdir=runs/random_cifar10 --config.data.path=DIR
Expected time: 0.9 s a step, so 220 hours of search, on one CPU core (measured by the step); an accelerator is
    advisable. Not yet run in full.
Expected result: Liu et al. report 3.29 ± 0.15 % test error for random search; not yet reproduced here.
"""

from configs.search import common


def get_config():
    config = common.cifar10()
    config.method = common.random_search(candidates=24)
    config.epochs = 2400
    return config
