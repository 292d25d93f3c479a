"""One-Shot with path dropout on the bundled digits, in the cell of NAS-Bench-201.

Command: python launch/search.py --config=configs/search/one_shot_digits.py --workdir=runs/one_shot_digits
Expected time: About 1 minute on one CPU core, most of it compiling.
Expected result: 98.9 % on the test split, a random architecture 97.5 % (seed 0).
"""

from configs.search import common, spaces


def get_config():
    config = common.digits(spaces.NAS_BENCH_201_8)
    config.method = common.one_shot()
    config.method.candidates = 100
    config.epochs = 40
    return config
