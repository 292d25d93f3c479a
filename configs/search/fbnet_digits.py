"""FBNet on the bundled digits.

Command: python launch/search.py --config=configs/search/fbnet_digits.py --workdir=runs/fbnet_digits
Expected time: About 1.5 minutes on two CPU cores.
Expected result: 96.39 % for the chain found, 87.50 % for a random one (seed 0).
"""

from configs.search import common, spaces


def get_config():
    config = common.digits(spaces.FBNET_8)
    config.method = common.fbnet()
    config.method.warmup_epochs = 2
    config.method.update(common.SHORT_LOGITS)
    return config
