"""Once-for-All on digits, from the first stage to the network that its predictor finds."""

import importlib

import numpy as np

from jaxnas.experiment import search

SPACE = {
    **{"stem": 16, "stem_stride": 2, "widths": (16,), "strides": (1,), "squeeze": (False,), "hard_swish": (True,)},
    **{"final": 32, "head": 32, "kernels": (3, 5), "expansions": (1.0, 2.0), "depths": (1, 2), "resolutions": (6, 8)},
}
SHRINKING = {
    **{"kernel_epochs": 2, "depth_epochs": (2,), "width_epochs": (2,), "warmup_epochs": 0},
    **{"kernel_learning_rate": 0.05, "depth_learning_rates": (0.05,), "width_learning_rates": (0.05,)},
    **{"depth_subnets": 1, "width_subnets": 2, "calibrate": 64, "measured": 40, "predictor_steps": 200, "rounds": 10},
}
LARGEST = 6  # epochs of the largest network alone


def test_small_and_large_networks_learn_digits(tmp_path):
    """The smallest gains as soon as its options are trained; what prediction finds answers most images, untrained."""
    config = importlib.import_module("configs.search.once_for_all_digits").get_config()
    config.space.update(SPACE)
    config.method.update(SHRINKING)
    config.epochs = LARGEST
    result = search(config, tmp_path / "run")
    curves = {name: np.asarray(values) for name, values in result["subnets"].items()}
    assert set(curves) == {"smallest", "middle", "largest"}
    assert {len(values) for values in curves.values()} == {LARGEST + 2 + 2 + 2}
    assert curves["largest"][LARGEST - 1] > curves["smallest"][LARGEST - 1] + 0.1
    assert curves["smallest"][-1] > curves["smallest"][LARGEST - 1] + 0.1
    assert result["retrained_accuracy"] is None and result["inherited_accuracy"] > 0.5  # a tenth by chance
    assert -1 <= result["predictor"]["kendall"] <= 1
    assert "Nested networks" in (tmp_path / "run/report.html").read_text()
