"""How do the noise of NES and the step of coordinate differences change the gradient and what a step along it gains?

Command: python launch/lab.py --config=configs/lab/sigma_epsilon.py --workdir=runs/sigma_epsilon
Expected time: 30 seconds with --config.small=True on one CPU core; 13 minutes in full.
Expected result: Pretrained students of width 32: smoothed lowers the loss by 0.00203 at σ = 0.001 and by 0.00005
    at 0.1 and above. On raw ones neither σ nor ε matters much.
"""

from configs.lab import common

SHARED = ("task", "inits", "layers", "students", "pretraining")


def get_config():
    return common.experiment(
        "sigma_epsilon",
        "How do σ of NES and ε of coordinate differences change the gradient, and what a step along it gains?",
        {
            **{name: common.COMPARISON[name] for name in SHARED},
            "dims": (8, 32),
            "batches": 3,
            "batch_size": 16_000,
            "estimators": ("cdg", "smoothed", "nes_500"),
            "scales": (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0),  # of σ and of ε
            "reference": 0.1,  # the σ of the truth that all are compared with
            "truth_draws": 64,  # codes per example of the smoothed truth
            "normalise": "tensors",  # each tensor of a gradient to length 1; or "whole", or "none"
            "largest_rate": 1.0,  # the best rate is searched from 0 to here
        },
        {
            **common.SMALL_COMPARISON,
            "dims": (8,),
            "scales": (0.005, 0.02, 0.1, 0.5),
        },
    )
