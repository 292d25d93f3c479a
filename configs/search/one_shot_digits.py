"""One-Shot with path dropout on the bundled digits, in the cell of NAS-Bench-201.

Command: python launch/search.py --config=configs/search/one_shot_digits.py --workdir=runs/one_shot_digits
Expected time: About 3 minutes on two CPU cores, most of it compiling (estimated from shorter runs).
Expected result: Not yet run in full (seed 0).
"""

from configs.search import common, spaces


def get_config():
    config = common.digits(spaces.NAS_BENCH_201_8)
    config.method = common.one_shot()
    config.method.candidates = 100
    config.epochs = 40
    return config
