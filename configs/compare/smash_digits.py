"""Whether SMASH's scores rank architectures of memory banks as training them by themselves does, on digits.

Command: python launch/compare.py --config=configs/compare/smash_digits.py --workdir=runs/compare_smash_digits
Expected time: About 10 minutes on one CPU core, most of it compiling and training 24 networks.
Expected result: τ = 0.14 [-0.17, 0.43] of 24 architectures, the mean of two seeds: by themselves all but three
    reach 97.5 to 99.7 % of 360 images, so that chance decides their order. The best found reach 98.47 ± 0.59 %.
    Brock et al. report that scores and errors go together where the hypernetwork writes most of the weights.
"""

from configs.compare.common import comparison
from configs.search import common, spaces


def get_config():
    base = common.digits(spaces.MEMORY_BANKS_8)
    base.update({"epochs": 60, "num_seeds": 2})
    base.retrain.random_baseline = False
    method = common.smash()
    method.update({"samples": 80, "perturbations": 20, "markov": 0, "calibrate": 64, "weights_learning_rate": 0.1})
    config = comparison("Do weights that a network writes rank as training does?", base, {"smash": method})
    config.ranking.architectures = 24
    return config
