"""A wide ResNet of 16 layers with substituted convolutions on the bundled digits.

A row of wrn_compressed.py is chosen after a colon, --config=configs/evaluate/wrn_compressed_digits.py:hashed.

Command: python launch/evaluate.py --config=configs/evaluate/wrn_compressed_digits.py --workdir=runs/compressed_digits
Expected time: About 1 minute a row on one CPU core.
Expected result: 98.89 % with 82,637 parameters of 691,386; dense 99.17 % (docs/results.md has every row; seed 0).
"""

from configs.evaluate import common, wrn_compressed


def get_config(row: str = "separable_hashed"):
    config = common.small(wrn_compressed.get_config(row))
    config.network.update({"depth": 16, "width": 2})
    if config.teacher.workdir:
        config.teacher.workdir += "_digits"
    return config
