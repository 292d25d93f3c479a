"""Who takes part in the lab's comparisons: estimators by label; and how their cells are picked and summarised."""

import math
import re
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np

from jaxnas.core.errors import unknown
from jaxnas.evaluate import lab
from jaxnas.evaluate.lab.checks import check_list, check_positive
from jaxnas.evaluate.lab.findings import Cell

Name = TypeVar("Name", bound=Hashable)


class Contender(NamedTuple):
    """An estimator of the lab's table with its settings, and its name in figures."""

    title: str
    name: str
    settings: Mapping[str, Any]


# By label; the ε of CDG and the σ of the others are settings of the experiments.
FIXED: Mapping[str, Contender] = {
    "ste": Contender("STE", "ste", {"surrogate": "clipped"}),
    "ste_steep": Contender("STE steep", "ste", {"surrogate": "steep"}),
    "ste_swish": Contender("STE SwishSign", "ste", {"surrogate": "swish_sign"}),
    "ste_polynomial": Contender("STE polynomial", "ste", {"surrogate": "polynomial"}),
    "sr_ste": Contender("STE rounding", "sr_ste", {}),
    "cdg": Contender("CDG", "cdg", {}),
    "smoothed": Contender("smoothed", "smoothed", {}),
    "enumerated": Contender("enumerated", "enumerated", {}),
}
SAMPLED = re.compile(r"nes_([1-9]\d*)(?:_(\w+))?")  # NES with that many samples, and perhaps one of HELPED
SPAN = ("clipped", "steep", "swish_sign", "polynomial")  # the surrogates whose gradients NES may sample between
HELPED: Mapping[str, tuple[str, Mapping[str, Any]]] = {  # {end of a label: (end of the title, settings)}
    "ste": (" with STE control", {"control": "ste"}),
    "shift": (" from where the STE leads", {"shift": "ste"}),
    "span": (" in the span of STEs", {"subspace": SPAN}),
}


def contender(label: str, *, sigma: float, epsilon: float) -> Contender:
    """What a label stands for: one of FIXED, "nes_500" (NES with any number of samples) or "nes_500_ste" (see HELPED).

    Raises UserError for other labels and for settings that do not fit.
    """
    label = str(label)  # a config may hold anything
    sampled = SAMPLED.fullmatch(label)
    if sampled and (sampled[2] is None or sampled[2] in HELPED):
        population, (end, settings) = int(sampled[1]), HELPED.get(sampled[2] or "", ("", {}))
        found = Contender(f"NES {population:,}{end}", "nes", {"population": population, **settings})
    elif label in FIXED:
        found = FIXED[label]
    else:
        raise unknown("estimator", label, [*FIXED, "nes_500", *(f"nes_500_{end}" for end in HELPED)])
    given = {"sigma": sigma, "epsilon": epsilon}
    scale = {name: given[name] for name in lab.estimators()[found.name].settings if name in given}
    found = found._replace(settings={**found.settings, **scale})
    lab.estimator(found.name, **found.settings)
    return found


def chosen(labels: Sequence[str], *, sigma: float, epsilon: float) -> dict[str, Contender]:
    """{label: contender}; raises UserError as `contender` does, and for σ and ε that are not positive."""
    for name, scale in (("sigma", sigma), ("epsilon", epsilon)):
        check_positive(name, scale)
    check_list("estimators", labels)
    return {label: contender(label, sigma=sigma, epsilon=epsilon) for label in labels}


def grid(**labels: Sequence[Any]) -> tuple[Cell, ...]:
    """A cell for every combination of the labels' values, the last label running fastest.

    Raises UserError for labels without a value or with one twice.
    """
    cells: list[dict[str, Any]] = [{}]
    for name, given in labels.items():
        check_list(f"{name}s", given)
        cells = [cell | {name: value} for cell in cells for value in given]
    return tuple(cells)


def where(cells: Sequence[Cell], **labels: Any) -> list[int]:
    """The places of the cells that have these labels."""
    return [i for i, cell in enumerate(cells) if all(cell.get(name) == value for name, value in labels.items())]


def values(cells: Sequence[Cell], label: str) -> tuple[Any, ...]:
    """The values that a label takes, in the order of their first cell."""
    return tuple(dict.fromkeys(cell[label] for cell in cells))


def only_finite(found: Mapping[Name, float]) -> tuple[dict[Name, float], str]:
    """What is finite, and a sentence that names the others, with a space before it; "" where there are none."""
    finite = {name: value for name, value in found.items() if math.isfinite(value)}
    others = "; ".join(str(name) for name in found if name not in finite)
    return finite, f" Not finite, and left out: {others}." if others else ""


def mean_and_sd(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation over the leading axis; the deviation of one sample is 0."""
    return samples.mean(axis=0), samples.std(axis=0, ddof=1 if len(samples) > 1 else 0)


def clearly_above(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether paired samples differ by more than twice the standard error of their mean difference.

    Two samples at least are needed to tell; batches of one student count as independent.
    """
    lead, sd = mean_and_sd(first - second)
    return len(first) > 1 and bool(lead > 2 * sd / np.sqrt(len(first)))
