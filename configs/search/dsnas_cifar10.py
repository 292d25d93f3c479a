"""DSNAS in NAS-Bench-201's cell on CIFAR-10, without retraining.

Command: python launch/search.py --config=configs/search/dsnas_cifar10.py \
    --workdir=runs/dsnas_cifar10 --config.data.path=DIR
Expected time: 240 epochs of one path; not yet measured, an accelerator is advisable.
Expected result: Hu et al. 2020 report 74.4 % top-1 on ImageNet; no published figure for this space is known to us.
"""

from configs.search import common, spaces


def get_config():
    config = common.cifar10(spaces.NAS_BENCH_201)
    config.method = common.dsnas()
    config.epochs = 240
    config.retrain.epochs = 0
    return config
