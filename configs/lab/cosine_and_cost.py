"""Which estimator gives the best gradient for the time it takes?

Command: python launch/lab.py --config=configs/lab/cosine_and_cost.py --workdir=runs/cosine_and_cost
Expected time: 25 seconds with --config.small=True on one CPU core; 7 minutes at widths 8 and 32 with two
    batches, about 40 in full, estimated.
Expected result: With small=True: the smoothed gradient points closest to the truth (cosine 0.97 to 1.00 in the
    first layer) for two milliseconds; on pretrained students the plain STE falls to 0.4.

The batch is a tenth of the other experiments': the noise that matters here is that of the samples.
"""

from configs.lab import common

FULL = ("sr_ste", "nes_5000", "nes_500_ste", "nes_5000_ste")


def get_config():
    return common.experiment(
        "cosine_and_cost",
        "Which estimator gives the best gradient for the time that it takes?",
        {
            **common.COMPARISON,
            "batches": 3,
            "batch_size": 16_000,
            "estimators": (*common.COMPARISON["estimators"], *FULL),
            "truth_draws": 64,  # codes per example of the smoothed truth
            "repeats": 5,  # gradients that are timed
        },
        {
            **common.SMALL_COMPARISON,
            "estimators": (*common.COMPARISON["estimators"], "sr_ste", "nes_500_ste"),
        },
    )
