"""SPOS on the bundled digits: how many bits each residual block has, within a limit of bit operations.

Command: python launch/search.py --config=configs/search/spos_precision_digits.py --workdir=runs/spos_precision_digits
Expected time: About 1.5 minutes on one CPU core.
Expected result: 95.83 % on the test split with 10,780,672 BitOPs, a random architecture of 11,255,808 as much (seed 0).
"""

from configs.search import common, spaces


def get_config():
    config = common.digits(spaces.RESNET_8)
    config.method = common.spos()
    config.method.update({"calibrate": 64, **common.SHORT_EVOLUTION})
    config.epochs = 100
    config.cost.name = "bit_operations"
    config.cost.limit = 11_000_000
    config.cost.penalty = {"name": "relative", "weight": 0.0, "reference": 11_000_000}  # the accuracy alone counts
    return config
