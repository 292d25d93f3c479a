"""MDENAS on CIFAR-10, in NAS-Bench-201's cell.

Command: python launch/search.py --config=configs/search/mdenas_cifar10.py \
    --workdir=runs/mdenas_cifar10 --config.data.path=DIR
Expected time: 100 epochs of one path; not yet measured, an accelerator is advisable.
Expected result: Zheng et al. 2019 report 2.55 % test error in the space of DARTS; no published figure for this one.
"""

from configs.search import common, spaces


def get_config():
    config = common.cifar10(spaces.NAS_BENCH_201)
    config.method = common.mdenas()
    config.epochs = 100
    return config
