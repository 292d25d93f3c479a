"""SMASH on the bundled digits: a hypernetwork writes the weights that architectures of memory banks are judged with.

Command: python launch/search.py --config=configs/search/smash_digits.py --workdir=runs/smash_digits
Expected time: About 2 minutes on one CPU core.
Expected result: 98.06 % on the test split with 19,210 parameters; a random architecture 97.22 % with 24,226 (seed 0).
"""

from configs.search import common, spaces


def get_config():
    config = common.digits(spaces.MEMORY_BANKS_8)
    config.method = common.smash()
    config.method.update({"samples": 80, "perturbations": 20, "markov": 10, "calibrate": 64})
    config.method.weights_learning_rate = 0.1
    config.epochs = 60
    return config
