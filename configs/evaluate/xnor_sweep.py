"""The XNOR-ResNet18 on CIFAR-10 over widths and weight decays.

A row is chosen after a colon, WIDTH_DECAY: --config=configs/evaluate/xnor_sweep.py:192_1e-4. What is told are means
of the last 10 epochs (last_epochs in result.json), on a tenth of the training split that is held out. Published, there
on the test split: training loss, training and validation accuracy.

96_0      1.67e-3  99.95 %  92.57 %
192_0     0.0427   98.47 %  90.19 %
192_1e-4  0.1164   95.99 %  90.42 %
192_5e-4  0.6245   78.63 %  60.48 %
192_5e-5  0.0567   98.10 %  91.52 %
192_1e-5  0.0219   99.21 %  91.21 %
192_5e-6  0.0211   99.29 %  91.78 %
192_3e-6  0.0224   99.25 %  90.80 %
192_1e-6  0.0286   99.04 %  90.69 %
256_0     0.1364   95.20 %  85.83 %, batches of 64
256_1e-5  0.4476   84.34 %  79.64 %, batches of 64 and a rate of 2e-3

The rates of the other rows are not told; all have 2e-3 here.

Command: python launch/evaluate.py --config=configs/evaluate/xnor_sweep.py --workdir=runs/xnor_sweep
Expected time: Not run: hours on one GPU; describing a row takes 5 seconds.
Expected result: 92.57 % on held-out images for the default row, by the log.
"""

from configs.evaluate import common

DECAYS = ("0", "1e-4", "5e-4", "5e-5", "1e-5", "5e-6", "3e-6", "1e-6")
ROWS = ("96_0", *(f"192_{decay}" for decay in DECAYS), "256_0", "256_1e-5")


def get_config(row: str = "96_0"):
    width, decay = common.chosen(row, {name: name.split("_") for name in ROWS})
    config = common.xnor_resnet18(int(width), float(decay))
    config.recipe.batch_size = 64 if width == "256" else 128
    config.data.validation_fraction = 0.1
    return config
