"""The counts of the rounding experiment, and their intervals."""

import numpy as np
import pytest

from jaxnas.evaluate.lab.rounding import counts, proportion


@pytest.mark.parametrize(("count", "of"), [(0, 5), (1, 5), (5, 5), (50, 100)])
def test_a_proportion_lies_in_its_interval(count, of):
    """Wilson's interval for z = 1.96: centre (p + z²/2n) / (1 + z²/n)."""
    found = proportion(count, of)
    z = 1.959964
    middle = (count / of + z**2 / (2 * of)) / (1 + z**2 / of)
    assert found["low"] <= found["proportion"] <= found["high"]
    assert (found["low"] + found["high"]) / 2 == pytest.approx(middle, abs=1e-6)


def test_counts_by_hand():
    before, ste = np.array([1.0, 1.0, 1.0]), np.array([0.9, 1.1, 0.5])
    rounded = np.array([[0.8, 1.2], [1.2, 0.7], [0.6, 0.7]])
    found = {name: one["count"] for name, one in counts(before, ste, rounded).items()}
    assert found == {
        "rounding beats the STE for some N": 2,
        "rounding beats the STE for the smallest N": 1,
        "rounding beats the STE for the largest N": 1,
        "the STE lowers the loss": 2,
        "rounding lowers the loss for every N": 1,
        "rounding stops lowering the loss as N grows": 1,
        "rounding starts lowering the loss as N grows": 1,
    }
