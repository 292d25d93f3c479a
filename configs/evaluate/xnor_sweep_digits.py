"""The XNOR-ResNet18 on the bundled digits over widths and weight decays, a twelfth as wide.

A row of xnor_sweep.py is chosen after a colon, --config=configs/evaluate/xnor_sweep_digits.py:192_1e-4.

Command: python launch/evaluate.py --config=configs/evaluate/xnor_sweep_digits.py --workdir=runs/xnor_sweep_digits
Expected time: About 30 seconds a row on one CPU core.
Expected result: 76.2 % on held-out images in the last 10 epochs for the default row, 89.7 to 91.7 % for widths 192.
"""

from configs.evaluate import common, xnor_sweep


def get_config(row: str = "96_0"):
    config = common.small(xnor_sweep.get_config(row))
    config.network.width = int(row.split("_")[0]) // 12
    return config
