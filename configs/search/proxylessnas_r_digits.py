"""ProxylessNAS-R on the bundled digits, with MnasNet's reward of accuracy and mult-adds.

Command: python launch/search.py --config=configs/search/proxylessnas_r_digits.py --workdir=runs/proxylessnas_r_digits
Expected time: About 3 minutes on two CPU cores, most of it compiling (estimated from a run on a busy machine).
Expected result: 90.0 % retrained at 108,416 mult-adds; a random architecture at 132,992 reaches 91.7 % (seed 0).
"""

from configs.search import common, spaces


def get_config():
    config = common.digits(spaces.PROXYLESSNAS_8)
    config.method = common.proxylessnas_r()
    config.method.warmup_epochs = 4
    config.method.every = 2
    config.epochs = 30
    config.method.update(common.SHORT_LOGITS)
    config.cost.name = "mult_adds"
    config.cost.penalty = {"name": "reward_power", "target": 2e5, "exponent": -0.07, "hard": False}
    return config
