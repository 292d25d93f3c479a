"""Every method for chains of blocks on the bundled digits: a comparison that runs anywhere.

Command: python launch/compare.py --config=configs/compare/digits.py --workdir=runs/compare_digits
Expected time: About 10 minutes on two CPU cores, most of it compiling (6 of a shorter run were).
Expected result: Not yet run in full. The digits are easy: most of the 81 chains come within a point of each other.
"""

from configs.compare.common import chain_methods, comparison
from configs.search import common, spaces

EPOCHS = 20


def get_config():
    base = common.digits(spaces.NAS_BENCH_MACRO_8)
    base.epochs = EPOCHS
    base.num_seeds = 2
    return comparison("Which method finds the best chain for digits?", base, chain_methods(EPOCHS, candidates=4))
