"""Evolution strategies on the logits of a single path, a combination of one's own, on the bundled digits.

Command: python launch/search.py --config=configs/search/composed_digits.py --workdir=runs/composed_digits
Expected time: TODO 0 minutes on two CPU cores.
Expected result: TODO.
"""

from configs.search import common


def get_config():
    config = common.digits()
    config.method = common.composed(sampler="gumbel_straight_through", estimator="nes")
    config.method.update(common.SHORT_LOGITS)
    return config
