"""The report of a specialization: what was asked, the networks that answer, and the fronts that they lie on."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxnas.evaluate.lab.findings import Curve, Figure
from jaxnas.report.lab_figures import draw, looks
from jaxnas.report.markup import count, duration, flat, folded, percent, settings_section, table, text, tile
from jaxnas.report.shell import document, write_page
from jaxnas.report.style import COMPARISON_STYLE


class SpecializationRecord(NamedTuple):
    """Everything that a specialization left behind: the config as nested plain values, the content of result.json."""

    config: Mapping[str, Any]
    result: Mapping[str, Any]


def render_specialization(record: SpecializationRecord) -> str:
    """The page as text; the same record gives the same page. Sections without data are left out."""
    title = f"{text(record.result['method'].replace('_', ' '))} on {text(record.result['data'])}, specialized"
    body = "".join(
        (_headline(title, record), _requests(record), _fronts(record), _predictor(record), _settings(record))
    )
    return document(title, body, css=COMPARISON_STYLE)


def write_specialization(path: str | os.PathLike[str], record: SpecializationRecord) -> None:
    """Writes the report to `path`, whole or not at all; its folder has to exist.

    Raises:
        UserError: the file cannot be written; see shell.write_page.
    """
    write_page(path, render_specialization(record))


def _headline(title: str, record: SpecializationRecord) -> str:
    quality, answers = record.result["predictor"], record.result["requests"].values()
    held_out = f"of {len(quality['held_out']['measured']):,} architectures that it was not trained on"
    tiles = [
        tile("Error of the predictor", percent(quality["rmse"]), held_out),
        tile("Kendall's τ", _number(quality["kendall"]), f"Spearman's ρ {_number(quality['spearman'])}, of the same"),
        tile("Measured", f"{quality['measured']:,}", "architectures, once for all requests"),
        tile(
            "Search",
            duration(float(np.mean([one["seconds"] for one in answers]))),
            "for a request on average, with compiling",
        ),
    ]
    words = (
        "Networks cut out of one set of weights for several limits. None of them was trained by itself; only the "
        "statistics of their normalisations were taken anew."
    )
    head = f'<header><div class="eyebrow">Specialization</div><h1>{title}</h1><p>{words}</p></header>'
    return f'{head}<div class="tiles">{"".join(tiles)}</div>'


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _requests(record: SpecializationRecord) -> str:
    head = ["request", "limit", "cost predicted", "measured", "parameters", "mult-adds", "accuracy predicted"]
    head += ["with shared weights", "by itself", "test", "architecture"]
    rows = []
    for label, one in record.result["requests"].items():
        cost, accuracy = one["cost"], one["accuracy"]
        costs = [_cost(cost[name], cost["unit"]) for name in ("limit", "predicted", "measured")]
        sizes = [count(one["size"][name]) for name in ("params", "mult_adds")]
        accuracies = [percent(accuracy[name]) for name in ("predicted", "shared", "valid", "test")]
        rows.append([f"<b>{text(label)}</b>", *costs, *sizes, *accuracies, _shown(one["genotype"])])
    words = (
        "Accuracies but the last of images that the weights were not trained on and the search chose by; the last of "
        "the test split. Measured costs are milliseconds of the network itself, on this machine."
    )
    body = table(head, rows, range(1, len(head) - 1))
    return f'<h2>Requests</h2><p class="quiet">{words}</p><div class="panel">{body}</div>'


def _cost(value: float | None, unit: str) -> str:
    if value is None:
        return "–"
    return f"{value:.3g} ms" if unit == "ms" else count(value)


def _shown(genotype: str) -> str:
    return f"<details><summary>show</summary><code>{text(genotype)}</code></details>"


def _fronts(record: SpecializationRecord) -> str:
    """One figure for every unit, with the fronts of all devices, and the tables behind them."""
    fronts = record.result["fronts"]
    if not fronts:
        return ""
    units = dict.fromkeys(one["unit"] for one in fronts.values())
    figures = [_figure(record, unit) for unit in units]
    of_label = looks(figures)
    panels = "".join(
        f'<div class="panel">{draw(figure, of_label, f"front-{number}")}</div>' for number, figure in enumerate(figures)
    )
    tables = "".join(folded(f"{text(label)}: {text(one['device'])}", _points(one)) for label, one in fronts.items())
    words = "Architectures of which nothing known is both cheaper and predicted to be more accurate."
    return (
        f'<h2>Fronts</h2><p class="quiet">{words}</p><div class="plots">{panels}</div><div class="stack">{tables}</div>'
    )


def _figure(record: SpecializationRecord, unit: str) -> Figure:
    curves: list[Curve] = []
    for label, one in record.result["fronts"].items():
        if one["unit"] == unit:
            cost = np.asarray(one["cost"], float)
            name = f"{one['device']} ({label})" if unit == "ms" else label
            curves.append(Curve(f"{name}, predicted", cost, 100 * np.asarray(one["predicted"], float)))
            curves.append(Curve(f"{name}, measured", cost, 100 * np.asarray(one["shared"], float), marks=True))
    answers = [one for one in record.result["requests"].values() if one["cost"]["unit"] == unit]
    curves.append(Curve("requests, measured", *_of_requests(answers), marks=True))
    caption = "Measured: on the validation half, with the shared weights."
    label = "ms, as the table predicts" if unit == "ms" else unit
    return Figure(f"Accuracy against {unit}", caption, label, "accuracy, %", tuple(curves))


def _of_requests(answers: Sequence[Mapping[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
    """Predicted costs and measured accuracies in per cent."""
    costs = np.asarray([one["cost"]["predicted"] for one in answers], float)
    return costs, 100 * np.asarray([one["accuracy"]["shared"] for one in answers], float)


def _points(one: Mapping[str, Any]) -> str:
    rows = [
        [_cost(cost, one["unit"]), percent(predicted), percent(shared), f"<code>{text(architecture)}</code>"]
        for cost, predicted, shared, architecture in zip(
            one["cost"], one["predicted"], one["shared"], one["architectures"], strict=True
        )
    ]
    return table(["cost", "predicted", "with shared weights", "architecture"], rows, range(3))


def _predictor(record: SpecializationRecord) -> str:
    """Predicted against measured accuracies of what was held out, and where they would be the same."""
    pairs = record.result["predictor"]["held_out"]
    measured, predicted = (100 * np.asarray(pairs[name], float) for name in ("measured", "predicted"))
    if not len(measured):
        return ""
    ends = np.asarray([min(measured.min(), predicted.min()), max(measured.max(), predicted.max())])
    points = Curve("held-out architectures", measured, predicted, marks=True)
    curves = (points, Curve("predicted as measured", ends, ends))
    caption = "Of random architectures whose accuracies the predictor was not told."
    figure = Figure("Predicted against measured accuracy", caption, "measured, %", "predicted, %", curves)
    plot = draw(figure, looks([figure]), "held-out")
    return f'<h2>Predictor</h2><div class="plots"><div class="panel">{plot}</div></div>'


def _settings(record: SpecializationRecord) -> str:
    versions = flat(record.result["versions"])
    return settings_section(
        {"Config": flat(record.config), "Versions and device": [*versions, ("device", record.result["device"])]}
    )
