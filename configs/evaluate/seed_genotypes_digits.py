"""The cells of the off-policy search's log on the bundled digits, small and beside a random cell.

A row of seed_genotypes.py is chosen after a colon, --config=configs/evaluate/seed_genotypes_digits.py:OFF_POLICY_31.

Command: python launch/evaluate.py --config=configs/evaluate/seed_genotypes_digits.py --workdir=runs/genotypes_digits
Expected time: About 1 minute a row on one CPU core.
Expected result: 97.78 % with 41,250 parameters; a random cell 98.06 % (seed 0).
"""

from configs.evaluate import common, seed_genotypes


def get_config(row: str = "OFF_POLICY_34"):
    return common.small(seed_genotypes.get_config(row))
