"""The search for the largest substitute within a budget, against trying every number."""

import numpy as np
import pytest

from jaxnas.core.errors import UserError
from jaxnas.layers.substitutes import KINDS, within_budget
from jaxnas.layers.substitutes.kinds import Dense

LAYERS = [Dense((3, 3), 8, 16), Dense((1, 1), 16, 8), Dense((3, 3), 24, 12)]


@pytest.mark.parametrize("dense", LAYERS, ids=lambda dense: dense.text)
@pytest.mark.parametrize("kind", KINDS)
def test_no_number_fits_the_budget_better(kind, dense):
    least, most = KINDS[kind].bounds(dense)
    sizes = [KINDS[kind].build(dense, number).params for number in range(least, most + 1)]
    steps = np.diff(sizes)
    assert (steps >= 0).all() or (steps <= 0).all()
    smallest, largest = min(sizes), max(sizes)
    found = []
    for budget in np.unique(np.linspace(smallest, largest + 1, 20).astype(int)).tolist():
        number, substitute = within_budget(kind, dense, budget)
        assert sizes[number - least] == substitute.params == max(size for size in sizes if size <= budget)
        found.append(substitute.params)
    assert found == sorted(found)  # a larger budget is never used less
    with pytest.raises(UserError, match=rf"is {smallest - 1} parameters.*needs at least {smallest}\."):
        within_budget(kind, dense, smallest - 1)


def test_a_large_bank_is_found_exactly():
    dense = Dense((3, 3), 640, 640)
    number, substitute = within_budget("hashed", dense, 1_234_567)
    assert (number, substitute.params) == (1_234_567 - 640, 1_234_567)


def test_unknown_kind():
    with pytest.raises(UserError, match="unknown substitute 'hash'; did you mean 'hashed'"):
        within_budget("hash", LAYERS[0], 100)
