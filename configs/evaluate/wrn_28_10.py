"""WRN-28-10 on CIFAR-10 (Zagoruyko & Komodakis 2016) by the default settings of the compression experiments.

Command: python launch/evaluate.py --config=configs/evaluate/wrn_28_10.py --workdir=runs/wrn_28_10
Expected time: Not run: about a day on one GPU of 2018; describing it takes 5 seconds.
Expected result: Published about 4.0 % test error, 3.3 % with cutout; 36,479,194 parameters and 5,243,328,768 mult-adds.
"""

from configs.evaluate import common


def get_config():
    return common.wide_resnet()
