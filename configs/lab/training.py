"""Which estimator trains a student furthest, and does it help to change to NES where the STE is stuck?

Command: python launch/lab.py --config=configs/lab/training.py --workdir=runs/training
Expected time: 25 seconds with --config.small=True on one CPU core; 6 minutes in full.
Expected result: SwishSign reaches the lowest loss (0.034; the vanilla STE 0.109). Where that is stuck, NES goes on to
    0.099, the STE begun anew to 0.106.
"""

from configs.lab import common


def get_config():
    return common.experiment(
        "training",
        "Which estimator trains a student furthest, and does changing to NES help where the STE is stuck?",
        {
            "task": "teacher",  # of the student's own shape; or "digits", images classified by least squares
            "dim": 16,
            "layers": 3,
            "inits": 3,
            "batch_size": 4096,
            "steps": 2000,
            "every": 50,
            "rate": 0.01,
            "estimators": ("ste", "ste_swish", "ste_polynomial", "sr_ste", "cdg", "nes_500", "smoothed"),
            "sigma": 0.02,  # where students end up, 0.1 is too much: see docs/lab.md
            "epsilon": 0.1,
            "switch_from": "ste",
            "switch_to": "nes_500",
            "window": 5,  # measurements without progress
            "tolerance": 0.01,  # what counts as progress, as a share of the loss
        },
        {"dim": 8, "inits": 2, "batch_size": 1024, "steps": 300, "every": 20},
    )
