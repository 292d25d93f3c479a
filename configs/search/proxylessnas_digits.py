"""ProxylessNAS-G on the bundled digits.

Command: python launch/search.py --config=configs/search/proxylessnas_digits.py --workdir=runs/proxylessnas_digits
Expected time: About 1.5 minutes on two CPU cores.
Expected result: 97.22 % for the chain found, 96.39 % for a random one (seed 0).
"""

from configs.search import common, spaces


def get_config():
    config = common.digits(spaces.PROXYLESSNAS_8)
    config.method = common.proxylessnas()
    config.method.warmup_epochs = 4
    config.method.every = 2
    config.epochs = 30
    config.method.update(common.SHORT_LOGITS)
    return config
