"""FBNetV2, with a choice of image size, on the bundled digits.

Command: python launch/search.py --config=configs/search/fbnet_v2_digits.py --workdir=runs/fbnet_v2_digits
Expected time: About 2 minutes on one CPU core, most of it compiling; half a minute with a warm cache.
Expected result: 95.28 % for the network found, 83.89 % for a random one (seed 0).
"""

from configs.search import common, spaces


def get_config():
    config = common.digits(spaces.FBNET_V2_8)
    config.method = common.fbnet_v2()
    config.method.warmup_epochs = 2
    config.method.update(common.SHORT_LOGITS)
    config.cost.name = "mult_adds"
    config.cost.penalty.reference = 1e5
    return config
