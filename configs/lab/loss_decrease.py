"""How much does one step along each estimator's gradient lower the loss, at every learning rate?

Command: python launch/lab.py --config=configs/lab/loss_decrease.py --workdir=runs/loss_decrease
Expected time: 20 seconds with --config.small=True on one CPU core; about an hour in full, estimated.
Expected result: With small=True: at width 16 NES gets furthest (0.275) on raw students, none clearly ahead; on
    pretrained ones CDG gets furthest (0.0023) and NES of 500 samples least far (0.0002).

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
