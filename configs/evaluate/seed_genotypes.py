"""The cells of the off-policy search's log, trained on CIFAR-10 as DARTS trains: C = 36, 20 layers, 600 epochs.

A row is chosen after a colon, --config=configs/evaluate/seed_genotypes.py:OFF_POLICY_36. Published accuracies:

PDARTS         3,433,798 parameters, 97.46 %
OFF_POLICY_17  9,814,654 parameters, not told
OFF_POLICY_31  3,727,990 parameters, 96.8 %
OFF_POLICY_34  5,366,998 parameters, 97.25 %
OFF_POLICY_36  3,225,358 parameters, 97.1 %

Command: python launch/evaluate.py --config=configs/evaluate/seed_genotypes.py --workdir=runs/seed_genotypes
Expected time: Not run: 34 to 52 hours on one GPU, by the log; describing a row takes 5 seconds.
Expected result: 97.25 % on the test split for the default row, by the log.
"""

from configs.evaluate import common

ROWS = ("PDARTS", "OFF_POLICY_17", "OFF_POLICY_31", "OFF_POLICY_34", "OFF_POLICY_36")


def get_config(row: str = "OFF_POLICY_34"):
    return common.cells(common.chosen(row, {name: name for name in ROWS}))
