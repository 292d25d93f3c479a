"""Evolution strategies on the logits of a single path, a combination of one's own, on the bundled digits.

Command: python launch/search.py --config=configs/search/composed_digits.py --workdir=runs/composed_digits
Expected time: About 3 minutes on one CPU core.
Expected result: 97.50 % for the cells found, 98.33 % for a random one (seed 0).
"""

from configs.search import common


def get_config():
    config = common.digits()
    config.method = common.composed(sampler="gumbel_straight_through", estimator="nes")
    config.method.update(common.SHORT_LOGITS)
    return config
