"""Few-shot NAS on the bundled digits: a supernet that is split at the block whose options disagree most.

Command: python launch/search.py --config=configs/search/few_shot_digits.py --workdir=runs/few_shot_digits
Expected time: About 3 minutes on two CPU cores, most of it compiling (estimated from shorter runs).
Expected result: Not yet run in full; chains of this space reach 96 to 97 % (seed 0).
"""

from configs.search import common, spaces


def get_config():
    config = common.digits(spaces.NAS_BENCH_MACRO_8)
    config.method = common.few_shot()
    config.method.update({"member_epochs": 10, "calibrate": 64, **common.SHORT_EVOLUTION})
    config.epochs = 20
    return config
