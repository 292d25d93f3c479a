"""Stochastic rounding in the gradient: does averaging N draws point further downhill than the plain STE?

The experiment of the lab's second question. One step from a student, raw or pretrained, on one batch: along the
gradient of the vanilla STE, and along the mean of N = 1 ... 10 gradients whose signs were rounded stochastically (plain
sign everywhere else), uniform or weighted by importance, each normalised to length one; the loss at the best of 50,000
rates. What ten batches suggested is counted over many, with Wilson's confidence intervals.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from scipy.stats import binomtest

from jaxnas.core.keys import at_step, named
from jaxnas.core.threads import kept
from jaxnas.core.types import Params
from jaxnas.evaluate import lab
from jaxnas.evaluate.lab import checks, contenders
from jaxnas.evaluate.lab.comparison import sweep_if_finite
from jaxnas.evaluate.lab.findings import Cell, Curve, Experiment, Figure, Findings, Table
from jaxnas.evaluate.lab.students import Student, make_student, unit_length

STUDENTS = ("raw", "pretrained")
WEIGHTINGS = ("uniform", "importance")


def stochastic_rounding(
    *,
    seed: int,
    width: int,
    layers: int,
    batches: int,
    batch_size: int,
    draws: Sequence[int],
    rates: Sequence[float],
    pretraining: int,
) -> Experiment:
    """One cell per student and batch. rates: (first, last, how many), equally spaced; pretraining: steps."""
    checks.check_counts(width=width, batches=batches, batch_size=batch_size, pretraining=pretraining)
    checks.check_sign_layers(layers)
    checks.check_list("draws", draws, checks.check_count)
    grid = np.unique(np.linspace(*checks.checked_range("rates", rates)))
    cells = contenders.grid(student=STUDENTS, batch=range(batches))

    @kept  # trained when the first cell needs it
    def student_of(kind: str) -> Student:
        return make_student(seed, 0, width, layers, pretrained=kind == "pretrained", steps=pretraining)

    def measure(cell: Cell) -> Mapping[str, np.ndarray]:
        student = student_of(cell["student"])
        key = at_step(named(jax.random.key(seed), "rounding"), cell["student"], cell["batch"])
        x, y = student.batch(named(key, "data"), batch_size)

        def best(gradient: Params) -> float:
            return float(sweep_if_finite(student.params, unit_length(gradient), x, y, grid).losses.min())

        rounded = [
            [
                best(lab.gradient("sr_ste", student.params, x, y, at_step(key, "draws", n), draws=n, weighting=how))
                for n in draws
            ]
            for how in WEIGHTINGS
        ]
        return {
            "before": np.asarray(lab.loss(student.params, x, y), np.float64),
            "ste": np.asarray(best(lab.gradient("ste", student.params, x, y))),
            "rounded": np.asarray(rounded),
        }

    shapes = {"before": (), "ste": (), "rounded": (len(WEIGHTINGS), len(draws))}
    return Experiment(
        "stochastic_rounding", cells, shapes, measure, lambda measured: _conclude(cells, tuple(draws), measured)
    )


def _conclude(cells: Sequence[Cell], draws: Sequence[int], measured: Mapping[str, np.ndarray]) -> Findings:
    numbers: dict[str, Any] = {}
    rows, figures, others = [], [], []
    finite = np.isfinite(measured["before"] + measured["ste"] + measured["rounded"].sum(axis=(1, 2)))
    for student in STUDENTS:
        all_mine = contenders.where(cells, student=student)
        mine = [i for i in all_mine if finite[i]]
        if len(mine) < len(all_mine):
            left_out = f"{len(all_mine) - len(mine)} of {len(all_mine)} batches"
            others.append(f"On the {student} student {left_out} gave losses that are not finite, and are left out.")
        if not mine:
            continue
        before, ste, rounded = (measured[name][mine] for name in ("before", "ste", "rounded"))
        numbers[student] = counts(before, ste, rounded[:, 0])
        rows += [
            (student, what, f"{one['count']} of {one['of']}", f"{one['low']:.0%} to {one['high']:.0%}")
            for what, one in numbers[student].items()
        ]
        figures.append(_losses(student, draws, before, ste, rounded))
    table = Table("How often", ("student", "what", "batches", "95 % interval"), tuple(rows), "Wilson's intervals.")
    return Findings(numbers, (*_sentences(numbers), *others), tuple(figures), (table,))


def counts(before: np.ndarray, ste: np.ndarray, rounded: np.ndarray) -> dict[str, dict[str, float]]:
    """The log's counts as proportions: before and ste [batches], rounded [batches, draws] of best losses."""
    below = rounded < before[:, None]
    events = {
        "rounding beats the STE for some N": (rounded < ste[:, None]).any(axis=1),
        "rounding beats the STE for the smallest N": rounded[:, 0] < ste,
        "rounding beats the STE for the largest N": rounded[:, -1] < ste,
        "the STE lowers the loss": ste < before,
        "rounding lowers the loss for every N": below.all(axis=1),
        "rounding stops lowering the loss as N grows": below[:, 0] & ~below[:, -1],
        "rounding starts lowering the loss as N grows": ~below[:, 0] & below[:, -1],
    }
    return {name: proportion(int(happened.sum()), len(happened)) for name, happened in events.items()}


def proportion(count: int, of: int) -> dict[str, float]:
    """A count as a proportion with Wilson's 95 % interval: {count, of, proportion, low, high}."""
    interval = binomtest(count, of).proportion_ci(method="wilson")
    return {"count": count, "of": of, "proportion": count / of, "low": interval.low, "high": interval.high}


def _losses(student: str, draws: Sequence[int], before: np.ndarray, ste: np.ndarray, rounded: np.ndarray) -> Figure:
    """Loss after the best step as a share of the loss before, against the number of draws."""
    x = np.asarray(draws, float)
    curves = []
    for number, how in enumerate(WEIGHTINGS):
        share = rounded[:, number] / before[:, None]
        mean, error = share.mean(axis=0), share.std(axis=0, ddof=1 if len(share) > 1 else 0) / np.sqrt(len(share))
        curves.append(Curve(f"rounding, {how}", x, mean, mean - error, mean + error))
    flat = np.full(len(x), (ste / before).mean())
    return Figure(
        f"{student.capitalize()} student",
        "Loss after one step at the best rate, as a share of the loss before. Bands: standard error over batches.",
        "draws averaged",
        "share of the loss left",
        (*curves, Curve("STE", x, flat)),
    )


def _sentences(numbers: Mapping[str, Mapping[str, Mapping[str, float]]]) -> tuple[str, ...]:
    lines = []
    for student, found in numbers.items():
        some, most = (found[f"rounding beats the STE for {which}"] for which in ("some N", "the largest N"))
        lines.append(
            f"On the {student} student stochastic rounding beats the plain STE on {most['proportion']:.0%} of the "
            f"batches at the largest N ({most['low']:.0%} to {most['high']:.0%}), and on {some['proportion']:.0%} when "
            "the best N may be chosen afterwards, which is a choice that favours it."
        )
    return tuple(lines)
