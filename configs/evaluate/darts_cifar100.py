"""The network of a genotype on CIFAR-100, by the recipe of DARTS; by default P-DARTS's (Chen, Xie, Wu & Tian 2019).

Command: python launch/evaluate.py --config=configs/evaluate/darts_cifar100.py --workdir=runs/darts_cifar100
Expected time: Not run: about a day on one GPU of 2019, by the paper; describing it takes 5 seconds.
Expected result: Published 17.20 % test error with 3,485,728 parameters (C = 36, 20 layers).
"""

from configs.evaluate import common


def get_config():
    config = common.cells("PDARTS")
    config.images.classes = 100
    config.data.name = "cifar100"
    return config
