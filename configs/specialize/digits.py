"""Networks for three limits from one search of elastic networks on the bundled digits.

Command: python launch/specialize.py --config=configs/specialize/digits.py --workdir=runs/specialize_digits
Expected time: About 1 minute on one CPU core, most of it compiling, after the search itself.
Expected result: 93.06 % on the test split within 150,000 mult-adds, and 93.61 % within 300,000 and 600,000, by the same
    network of 207,264.
"""

from configs.specialize.common import specialization


def get_config():
    requests = {
        "small": {"cost": "mult_adds", "limit": 150_000},
        "medium": {"cost": "mult_adds", "limit": 300_000},
        "large": {"cost": "mult_adds", "limit": 600_000},
    }
    config = specialization("runs/once_for_all_digits", requests)
    config.calibration = 512
    return config
