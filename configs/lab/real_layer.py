"""Do the findings hold on a binarised convolution of a small residual network, on real images?

Command: python launch/lab.py --config=configs/lab/real_layer.py --workdir=runs/real_layer
Expected time: 55 seconds with --config.small=True on one CPU core; 20 minutes in full.
Expected result: On trained networks (97 % accurate) NES with the STE as control variate and CDG lower the loss most
    through three signs, SwishSign and polynomial STEs through one, where stochastic rounding does worst.

CIFAR-10 instead of the digits: --config.settings.data=cifar10, prepared as the README tells, or data=npz with a path.
"""

from configs.lab import common


def get_config():
    return common.experiment(
        "real_layer",
        "Do the findings hold on one binarised convolution of a small residual network, on real images?",
        {
            "data": "digits",
            "path": "",
            "channels": (16, 32),
            "blocks": 2,  # of each width
            "layers": (
                0,
                2,
            ),  # the blocks whose convolution is looked at: behind one are three signs, behind the other one
            "binary_weights": False,  # whether kernels act by their signs, too
            "students": ("raw", "trained"),
            "training": 600,  # steps of Adam with the vanilla STE
            "inits": 3,
            "batches": 3,
            "batch_size": 1024,
            "estimators": (
                "ste",
                "ste_steep",
                "ste_swish",
                "ste_polynomial",
                "sr_ste",
                "cdg",
                "nes_500",
                "nes_500_ste",
            ),
            "sigma": 0.1,  # in units of the kernel's root mean square, and so is ε
            "epsilon": 1.0,
            "coordinates": 256,  # that CDG measures
            "rates": (1e-3, 1.0, 61),  # smallest, largest, how many, geometrically spaced
        },
        {
            "layers": (0,),
            "training": 200,
            "inits": 2,
            "batches": 2,
            "batch_size": 256,
            "estimators": ("ste", "ste_swish", "sr_ste", "cdg", "nes_100", "nes_100_ste"),
            "coordinates": 64,
            "rates": (1e-3, 1.0, 25),
        },
    )
