"""The network of a genotype on ImageNet, by the recipe of DARTS (Liu, Simonyan & Yang 2019)
except for its jitter of colours, which is missing here.

Command: python launch/evaluate.py --config=configs/evaluate/darts_imagenet.py --workdir=runs/darts_imagenet
Expected time: Not run: 12 days on one GPU, by the paper; describing it takes 5 seconds.
Expected result: Published 26.7 % top-1 and 8.7 % top-5 test error with 4,718,752 parameters and 529,911,552 mult-adds.
"""

from configs.evaluate import common


def get_config():
    return common.cells_imagenet("DARTS_V2")
