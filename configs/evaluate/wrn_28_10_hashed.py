"""WRN-28-10 whose convolutions are HashedNets of a tenth of their parameters (Gray, Crowley & Storkey 2019).

Command: python launch/evaluate.py --config=configs/evaluate/wrn_28_10_hashed.py --workdir=runs/wrn_28_10_hashed
Expected time: Not run: about a day on one GPU of 2018; describing it takes 5 seconds.
Expected result: Published 6.48 % test error, of a smaller bank; 3,911,898 parameters and 5,243,328,768 mult-adds.
"""

from configs.evaluate import common


def get_config():
    config = common.wide_resnet()
    config.substitute.kind = "hashed_decimate"
    return config
