"""What the cosines of gradients show: figures, tables, numbers and sentences of the experiments of agreement."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxnas.evaluate.lab.contenders import clearly_above, mean_and_sd, only_finite, values, where
from jaxnas.evaluate.lab.findings import Cell, Curve, Figure, Findings, Table

Measured = Mapping[str, np.ndarray]
Titles = Mapping[str, str]  # {label of an estimator: its name in figures}
TRUTHS = {"to_cdg": "CDG", "to_smoothed": "the smoothed truth"}
BANDS = "Bands: standard deviation over students and batches."


def cosine_against_cost(cells: Sequence[Cell], titles: Titles, measured: Measured) -> Findings:
    """Cosine of the first layer against seconds for every width, and cosine of each layer against the width."""
    figures, tables, sentences = [], [], []
    for student in values(cells, "student"):
        for dim in values(cells, "dim"):
            figures += [_purchase(cells, titles, measured, student, dim, to) for to in TRUTHS]
            tables.append(_layer_table(cells, titles, measured, student, dim))
            sentences.append(_advice(cells, titles, measured, student, dim))
        if len(values(cells, "dim")) > 1:
            figures += [_by_width(cells, titles, measured[to][:, 0], student, name) for to, name in TRUTHS.items()]
    return Findings(_numbers(cells, measured, ("dim",)), tuple(sentences), tuple(figures), tuple(tables))


def against_scale(cells: Sequence[Cell], titles: Titles, reference: float, measured: Measured) -> Findings:
    """First layer's cosine and best loss decrease against σ (NES, smoothed) and ε (CDG)."""
    drawn = {
        "best_decrease": ("best loss decrease", "best loss decrease", "After one step at the best of all rates."),
        "to_reference": (
            f"cosine to the truth at σ = {reference:g}",
            "cosine, first layer",
            "The same smoothed truth for all.",
        ),
        "to_own": ("cosine to the truth at its own σ", "cosine, first layer", "For CDG the truth has σ = ε."),
    }
    figures, sentences = [], []
    scales = np.asarray(values(cells, "scale"), float)
    for student in values(cells, "student"):
        for dim in values(cells, "dim"):
            for quantity, (what, y_label, caption) in drawn.items():
                samples = measured[quantity] if quantity == "best_decrease" else measured[quantity][:, 0]
                curves = tuple(
                    _curve(cells, samples, title, scales, "scale", student=student, dim=dim, estimator=label)
                    for label, title in titles.items()
                )
                title = f"{student.capitalize()} student, width {dim}: {what}"
                figures.append(Figure(title, f"{caption} {BANDS}", "σ or ε", y_label, curves, log_x=True))
            sentences += [_best_scale(cells, titles, measured, student, dim, label) for label in titles]
    return Findings(_numbers(cells, measured, ("dim", "scale")), tuple(sentences), tuple(figures), ())


def _curve(cells: Sequence[Cell], samples: np.ndarray, title: str, x: np.ndarray, along: str, **labels: Any) -> Curve:
    """Mean and band of samples [cells] of the cells with these labels, for every value of the label `along`."""
    chosen = [mean_and_sd(samples[where(cells, **labels, **{along: value})]) for value in values(cells, along)]
    mean, sd = np.array(chosen).T
    return Curve(title, x, mean, mean - sd, mean + sd)


def _by_width(cells: Sequence[Cell], titles: Titles, samples: np.ndarray, student: str, truth: str) -> Figure:
    dims = np.asarray(values(cells, "dim"), float)
    curves = (
        _curve(cells, samples, title, dims, "dim", student=student, estimator=label) for label, title in titles.items()
    )
    return Figure(
        f"{student.capitalize()} student: first layer and {truth}",
        f"Cosine between the estimate and {truth} in the first layer. {BANDS}",
        "width",
        "cosine, first layer",
        tuple(curves),
        log_x=True,
    )


def _purchase(cells: Sequence[Cell], titles: Titles, measured: Measured, student: str, dim: int, to: str) -> Figure:
    """Cosine against seconds: a mark for each estimator."""
    marks = []
    for label, title in titles.items():
        mine = where(cells, student=student, dim=dim, estimator=label)
        mean, sd = mean_and_sd(measured[to][mine, 0])
        seconds = np.array([np.median(measured["seconds"][mine])])
        marks.append(Curve(title, seconds, np.array([mean]), np.array([mean - sd]), np.array([mean + sd]), marks=True))
    return Figure(
        f"{student.capitalize()} student, width {dim}: cost and cosine to {TRUTHS[to]}",
        f"Cosine to {TRUTHS[to]} in the first layer against the time of one gradient. {BANDS}",
        "seconds per gradient",
        "cosine, first layer",
        tuple(marks),
        log_x=True,
    )


def _layer_table(cells: Sequence[Cell], titles: Titles, measured: Measured, student: str, dim: int) -> Table:
    layers = measured["to_cdg"].shape[1] - 1
    rows = []
    for label, title in titles.items():
        mine = where(cells, student=student, dim=dim, estimator=label)
        both = (mean_and_sd(measured[to][mine]) for to in TRUTHS)
        rows.append(
            (
                title,
                *(f"{mean:.3f} ± {sd:.3f}" for means, sds in both for mean, sd in zip(means, sds, strict=True)),
                f"{np.median(measured['seconds'][mine]):.3g}",
            )
        )
    parts = [*(f"layer {number}" for number in range(1, layers + 1)), "all"]
    columns = ("estimator", *(f"{part}, to {name}" for name in ("CDG", "smoothed") for part in parts), "seconds")
    caption = "Cosines, mean ± standard deviation over students and batches; median of the seconds per gradient."
    return Table(f"{student.capitalize()} student, width {dim}", columns, tuple(rows), caption)


def _advice(cells: Sequence[Cell], titles: Titles, measured: Measured, student: str, dim: int) -> str:
    """The estimators that no other beats in both cosine to the smoothed truth and cost, cheapest first."""
    worth = {}
    for label in titles:
        mine = where(cells, student=student, dim=dim, estimator=label)
        worth[label] = float(np.median(measured["seconds"][mine])), float(measured["to_smoothed"][mine, 0].mean())
    _, others = only_finite({titles[label]: sum(both) for label, both in worth.items()})
    known = [label for label, both in worth.items() if np.isfinite(both).all()]
    kept, best = [], -np.inf
    for label in sorted(known, key=lambda label: (worth[label][0], -worth[label][1])):
        if worth[label][1] > best:
            best = worth[label][1]
            kept.append(f"{titles[label]} ({worth[label][1]:.2f} in {worth[label][0]:.2g} s)")
    rest = "; every other estimator costs more for less" if len(kept) < len(known) else ""
    if not kept:
        return f"On {student} students of width {dim} no estimator's cosines are finite."
    return (
        f"On {student} students of width {dim} the best buys, by the first layer's cosine to the smoothed truth, are "
        f"{', then '.join(kept)}{rest}.{others}"
    )


def _best_scale(cells: Sequence[Cell], titles: Titles, measured: Measured, student: str, dim: int, label: str) -> str:
    decrease = {
        scale: measured["best_decrease"][where(cells, student=student, dim=dim, estimator=label, scale=scale)]
        for scale in values(cells, "scale")
    }
    symbol = "ε" if label == "cdg" else "σ"
    start = f"On {student} students of width {dim} {titles[label]}"
    means, others = only_finite({scale: float(decreases.mean()) for scale, decreases in decrease.items()})
    if not means:
        return f"{start} gives no finite loss decrease at any {symbol}."
    best, worst = max(means, key=lambda scale: means[scale]), min(means, key=lambda scale: means[scale])
    if not clearly_above(decrease[best], decrease[worst]):
        return f"{start} lowers the loss about equally at every {symbol}.{others}"
    return (
        f"{start} lowers the loss most at {symbol} = {best:g} (by {means[best]:.3g}) and least at {worst:g} "
        f"(by {means[worst]:.3g}).{others}"
    )


def _numbers(cells: Sequence[Cell], measured: Measured, along: Sequence[str]) -> dict[str, Any]:
    """{student: {value of the labels along: {estimator: {quantity: {mean, sd}}}}}, nested as the labels are."""

    def nest(labels: dict[str, Any], levels: Sequence[str]) -> dict[str, Any]:
        if levels:
            return {str(v): nest({**labels, levels[0]: v}, levels[1:]) for v in values(cells, levels[0])}
        mine = where(cells, **labels)
        pairs = {name: mean_and_sd(samples[mine]) for name, samples in measured.items()}
        return {name: {"mean": mean.tolist(), "sd": sd.tolist()} for name, (mean, sd) in pairs.items()}

    return nest({}, ("student", *along, "estimator"))
