"""Which convolution of a small wide ResNet takes which substitute, by evolution under a limit of parameters, on digits.

Command: python launch/search.py --config=configs/search/spos_substitutes_digits.py --workdir=runs/substitutes
Expected time: About 1 minute and a half on two CPU cores.
Expected result: 96.11 % with 26,655 parameters, of 77,562 dense; a random choice with 50,604 96.94 % (seed 0).
"""

from configs.search import common, spaces


def get_config():
    config = common.digits(spaces.SUBSTITUTES_8)
    config.method = common.spos()
    config.method.update({"calibrate": 64, **common.SHORT_EVOLUTION})
    config.cost.name = "params"
    config.cost.limit = 30_000.0
    config.epochs = 12
    return config
