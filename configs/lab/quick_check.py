"""How far does one step at a learning rate of 0.1 go along each estimator's gradient?

Command: python launch/lab.py --config=configs/lab/quick_check.py --workdir=runs/quick_check
Expected time: 20 seconds with --config.small=True on one CPU core; at most as long as loss_decrease.
Expected result: With small=True, at width 8: CDG, NES and smoothed lower a raw student's loss
    most (CDG by 0.35); on a pretrained student a rate of 0.1 is too large for every estimator.
"""

from configs.lab import common


def get_config():
    return common.experiment(
        "quick_check",
        "How far does one step at a fixed learning rate go along each estimator's gradient?",
        {
            **common.COMPARISON,
            "normalise": "tensors",  # each tensor of a gradient to length 1; or "whole", or "none"
            "rate": 0.1,
        },
        {**common.SMALL_COMPARISON, "dims": (2, 8)},
    )
