"""The network of a genotype on CIFAR-10, by the recipe of DARTS (Liu, Simonyan & Yang 2019).

Command: python launch/evaluate.py --config=configs/evaluate/darts_cifar10.py --workdir=runs/darts_cifar10
Expected time: Not run: about a day on one GPU of 2018, by the paper; describing it takes 5 seconds.
Expected result: Published 2.76 % ± 0.09 test error with 3,349,342 parameters and 528,359,040 mult-adds.
"""

from configs.evaluate import common


def get_config():
    return common.cells("DARTS_V2")
