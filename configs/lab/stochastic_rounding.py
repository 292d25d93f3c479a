"""Does averaging stochastically rounded gradients point further downhill than the plain STE?

Command: python launch/lab.py --config=configs/lab/stochastic_rounding.py --workdir=runs/stochastic_rounding
Expected time: 90 seconds on one CPU core (17 with --config.small=True).
Expected result: Raw students: rounding beats the plain STE on 100 of 100 batches with ten draws and on 98 with one.
    Pretrained students: on none of 100, while the STE still lowers the loss on all of them.
"""

from configs.lab import common


def get_config():
    return common.experiment(
        "stochastic_rounding",
        "Does averaging stochastically rounded gradients point further downhill than the plain straight-through one?",
        {
            "width": 32,
            "layers": 3,
            "batches": 100,
            "batch_size": 1024,
            "draws": (1, 2, 3, 4, 5, 6, 7, 8, 9, 10),
            "pretraining": 500,  # steps
            "rates": (1e-5, 0.5, 50_000),  # first, last, how many, equally spaced
        },
        {"batches": 10, "draws": (1, 4, 10)},
    )
