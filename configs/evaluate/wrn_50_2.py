"""WRN-50-2 on ImageNet (Zagoruyko & Komodakis 2016): ResNet-50 with expansion 2 and doubled widths.

Command: python launch/evaluate.py --config=configs/evaluate/wrn_50_2.py --workdir=runs/wrn_50_2
Expected time: Not run: weeks on one GPU of 2018; describing it takes 5 seconds.
Expected result: Published 22.5 % top-1 and 6.4 % top-5 test error; 68,883,240 parameters and 11,398,021,120 mult-adds.
"""

from configs.evaluate import common


def get_config():
    return common.wrn_50_2()
