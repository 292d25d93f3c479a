"""Tables made of a formula, for searches that need no file: what choices add by themselves, and what neighbours add."""

import itertools

import jax.numpy as jnp
import numpy as np

from jaxnas.core.errors import UserError
from jaxnas.evaluate.tabular import Table
from jaxnas.spaces.product import product_space

LOWEST, HIGHEST = 0.5, 0.95  # accuracies
CHEAPEST, DEAREST = 1.0, 10.0  # what an option costs
LARGEST = 2**20  # architectures


def synthetic_table(*, choices: int, options: int, interactions: float, seed: int) -> Table:
    """A table of all options^choices architectures, with an "accuracy" from 0.5 to 0.95 and a "cost".

    The accuracy is a standard normal number for every option of every choice, plus `interactions` times one for every
    pair of options of neighbouring choices, brought to these ends: with 0 the best option of every choice is the best
    whatever the others are. The cost is a sum over choices, of 1 to 10 for each, the dearer the more its option adds to
    the accuracy, so that a limit hurts.
    Raises UserError for more than LARGEST architectures.
    """
    if options**choices > LARGEST:
        raise UserError(
            f"{choices} choices among {options} options make {options**choices:,} architectures, but a table can have "
            f"at most {LARGEST:,}; take fewer."
        )
    space = product_space("synthetic", {"choices": tuple(map(str, range(options)))}, {"choices": choices})
    generator = np.random.default_rng(seed)
    single = generator.standard_normal((choices, options))
    pairs = generator.standard_normal((choices - 1, options, options))
    numbers = np.array(list(itertools.product(range(options), repeat=choices)))
    rows, left = np.arange(choices), np.arange(choices - 1)
    worth = single[rows, numbers].sum(axis=1)
    worth += interactions * pairs[left, numbers[:, :-1], numbers[:, 1:]].sum(axis=1)
    accuracy = LOWEST + (HIGHEST - LOWEST) * (worth - worth.min()) / np.ptp(worth)
    prices = CHEAPEST + (DEAREST - CHEAPEST) * (single - single.min()) / np.ptp(single)
    values = np.stack([accuracy, prices[rows, numbers].sum(axis=1)], axis=1)
    texts = [space.canonical({"choices": jnp.asarray(one, jnp.int32)}) for one in numbers]
    return Table(space, ("accuracy", "cost"), {text: row for row, text in enumerate(texts)}, values)
