"""Few-shot NAS on the bundled digits: a supernet that is split at the block whose options disagree most.

Command: python launch/search.py --config=configs/search/few_shot_digits.py --workdir=runs/few_shot_digits
Expected time: About 2 minutes on one CPU core, most of it compiling.
Expected result: 95.28 % for the chain found, 95.00 % for a random one (seed 0).
"""

from configs.search import common, spaces


def get_config():
    config = common.digits(spaces.NAS_BENCH_MACRO_8)
    config.method = common.few_shot()
    config.method.update({"member_epochs": 10, "calibrate": 64, **common.SHORT_EVOLUTION})
    config.epochs = 20
    return config
