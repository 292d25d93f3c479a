"""Evolution strategies on the logits of a single path, a combination of one's own, on the bundled digits.

Command: python launch/search.py --config=configs/search/composed_digits.py --workdir=runs/composed_digits
Expected time: About 4 minutes on two CPU cores, half of it compiling (estimated).
Expected result: Not yet run in full; a random cell reaches 98.3 % (seed 0).
"""

from configs.search import common


def get_config():
    config = common.digits()
    config.method = common.composed(sampler="gumbel_straight_through", estimator="nes")
    config.method.update(common.SHORT_LOGITS)
    return config
