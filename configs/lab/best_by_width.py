"""How much does one step along each estimator's gradient lower the loss at the best of all rates, for every width?

Command: python launch/lab.py --config=configs/lab/best_by_width.py --workdir=runs/best_by_width
Expected time: 11 seconds with --config.small=True on one CPU core; in full as long as loss_decrease, whose gradients
    and steps these are.
Expected result: As loss_decrease: the loss decrease falls with the width, from 0.3 to 0.2 on raw students.

More samples of NES are added as in loss_decrease.py.
"""

from configs.lab import common


def get_config():
    return common.experiment(
        "best_by_width",
        "How much does one step at the best rate lower the loss, and how does that depend on the width?",
        {
            **common.COMPARISON,
            "normalise": "tensors",  # each tensor of a gradient to length 1; or "whole", or "none"
            "largest_rate": 1.0,  # the best rate is searched from 0 to here
        },
        {**common.SMALL_COMPARISON, "dims": (2, 8)},
    )
