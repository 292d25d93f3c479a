"""How much does one step along each estimator's gradient lower the loss, at every learning rate?

Command: python launch/lab.py --config=configs/lab/loss_decrease.py --workdir=runs/loss_decrease
Expected time: 20 seconds with --config.small=True on one CPU core; in full, 14 minutes on two for raw students alone
    (--config.settings.students="('raw',)"), about 30 for both.
Expected result: On raw students of width 64 CDG (0.222) and smoothed (0.219) lower the loss most, NES of 500 samples
    least (0.178). On pretrained ones CDG does at every width, 0.00012 at width 64, and NES finds nothing there.

The full run has NES with 500 samples. More samples take hours on a CPU and are added by
`--config.settings.estimators="('nes_5000', 'nes_50000', ...)"`.
"""

from configs.lab import common


def get_config():
    return common.experiment(
        "loss_decrease",
        "How much does one step along each estimated gradient lower the loss, at every learning rate?",
        {
            **common.COMPARISON,
            "normalise": "tensors",  # each tensor of a gradient to length 1; or "whole", or "none"
            "rates": (1e-5, 1.0, 51),  # smallest, largest, how many, geometrically spaced
            "fine_rates": (1e-2, 1.0, 100),  # the same, equally spaced
        },
        {**common.SMALL_COMPARISON, "rates": (1e-5, 1.0, 26), "fine_rates": (1e-2, 1.0, 34)},
    )
