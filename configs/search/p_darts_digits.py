"""P-DARTS on the bundled digits.

Command: python launch/search.py --config=configs/search/p_darts_digits.py --workdir=runs/p_darts_digits
Expected time: TODO 0 minutes on two CPU cores.
Expected result: TODO.
"""

from configs.search import common


def get_config():
    config = common.digits()
    config.method = common.p_darts()
    config.method.stage_layers = (3, 4, 6)
    config.method.stage_channels = (8, 8, 8)
    config.method.warmup_epochs = 2
    config.epochs = 18
    config.method.update(common.SHORT_LOGITS)
    return config
