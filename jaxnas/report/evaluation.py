"""The report of an evaluation: a network trained from scratch, its curves, what it is made of, random ones beside."""

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxnas.report.cells import draw_cell
from jaxnas.report.figures import Series, curves
from jaxnas.report.markup import (
    count,
    duration,
    figure,
    flat,
    folded,
    mean_percent,
    percent,
    settings_section,
    table,
    text,
    tile,
)
from jaxnas.report.palette import ACCENT, MUTED, colors
from jaxnas.report.record import cell_of
from jaxnas.report.shell import document, write_page
from jaxnas.spaces.genotype import parse_genotype

CELL_NETWORK = "cells"
CELLS = {"normal": "Normal cell", "reduce": "Reduction cell"}
QUANTITIES = {
    "loss": "Training loss",
    "accuracy": "Training accuracy",
    "valid_accuracy": "Accuracy on held-out images",
    "attention_loss": "Distance of attention maps",
    "soft_loss": "Divergence from the teacher",
}


class EvaluationRecord(NamedTuple):
    """Everything that an evaluation left behind.

    config: nested plain values. result: the content of result.json.
    history: {"found" or "random": {name of QUANTITIES: [seeds, epochs]}}.
    """

    config: Mapping[str, Any]
    result: Mapping[str, Any]
    history: Mapping[str, Mapping[str, np.ndarray]]


def render_evaluation(record: EvaluationRecord) -> str:
    """The page as text; the same record gives the same page. Sections without data are left out."""
    title = f"{text(_title(record))} on {text(record.result['data'])}"
    parts = (_headline(title, record), _cells(record), _curves(record), _selection(record), _seeds(record))
    body = "".join((*parts, _substitutes(record), _settings(record)))
    return document(title, body)


def write_evaluation(path: str | os.PathLike[str], record: EvaluationRecord) -> None:
    """Writes the report to `path`, whole or not at all; its folder has to exist.

    Raises:
        UserError: the file cannot be written; see shell.write_page.
    """
    write_page(path, render_evaluation(record))


def _title(record: EvaluationRecord) -> str:
    network = record.config["network"]
    kind = record.config["substitute"]["kind"]
    numbers = [str(network[name]) for name in ("depth", "width", "layers", "channels") if name in network]
    words = " ".join([network["name"].replace("_", " "), "-".join(numbers)])
    return words if kind == "none" else f"{words}, {kind.replace('_', ' ')}"


def _headline(title: str, record: EvaluationRecord) -> str:
    found, random = record.result["found"], record.result.get("random")
    cost, seeds = found["cost"], record.result["seeds"]
    over = "test accuracy, mean ± sd over seeds" if len(seeds) > 1 else "test accuracy"
    tiles = [tile("Accuracy", mean_percent(found["summary"]["accuracy"]), over)]
    if "top_5_accuracy" in found["summary"]:
        tiles.append(tile("Top 5", mean_percent(found["summary"]["top_5_accuracy"]), "of the test split"))
    if random:
        note = f"same training, {count(random['cost']['params'])} parameters"
        tiles.append(tile("Random", mean_percent(random["summary"]["accuracy"]), note))
    dense = f"of {count(cost['dense_params'])} dense" if "dense_params" in cost else "learned numbers"
    binary = f"{count(cost['binary_params'])} of them signs" if "binary_params" in cost else dense
    tiles.append(tile("Parameters", count(cost["params"]), binary))
    note = f"{count(cost['binary_mult_adds'])} of them of signs" if "binary_mult_adds" in cost else "for one image"
    tiles.append(tile("Mult-adds", count(cost["mult_adds"]), note))
    seconds = record.result["seconds"]
    parts = ", ".join(f"{text(name)}&nbsp;{duration(value)}" for name, value in seconds.items())
    tiles.append(tile("Time", duration(sum(seconds.values())), parts))
    epochs = record.config["recipe"]["epochs"]
    line = f"{epochs} epochs · seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"
    head = f'<header><div class="eyebrow">Evaluation</div><h1>{title}</h1><p class="quiet">{line}</p></header>'
    return head + f'<div class="tiles">{"".join(tiles)}</div>'


def _cells(record: EvaluationRecord) -> str:
    if record.config["network"]["name"] != CELL_NETWORK:
        return ""
    genotype = parse_genotype(record.result["found"]["genotype"])
    drawings = []
    for part, title in CELLS.items():
        edges, concat = cell_of(genotype, part)
        inks = colors(dict.fromkeys(operation for operation, _ in edges))
        drawings.append(figure(draw_cell(edges, concat, f"cell-{part}", title, inks), title=title, scroll=True))
    code = f'<code class="genotype">{text(record.result["found"]["genotype"])}</code>'
    return f'<h2>Cells</h2><div class="panel"><div class="cells">{"".join(drawings)}</div>{code}</div>'


def _curves(record: EvaluationRecord) -> str:
    panels = []
    for name, title in QUANTITIES.items():
        series = [
            Series(_word(record, kind), record.history[kind][name], ink, dashed)
            for kind, ink, dashed in (("random", MUTED, True), ("found", ACCENT, False))
            if np.isfinite(record.history.get(kind, {}).get(name, np.nan)).any()
        ]
        if series:
            svg = curves(series, name, title, percent=name.endswith("accuracy"))
            panels.append(f'<div class="panel">{figure(svg, title=title)}</div>')
    return f'<h2>Training</h2><div class="plots">{"".join(panels)}</div>' if panels else ""


def _word(record: EvaluationRecord, kind: str) -> str:
    """What an arm is called: without random architectures there is nothing to tell what was found from."""
    return kind if "random" in record.result else "trained"


def _selection(record: EvaluationRecord) -> str:
    """The short trainings that chose, best first."""
    rows = [
        [kind, percent(one["mean"]), f"<details><summary>show</summary><code>{text(one['genotype'])}</code></details>"]
        for kind in ("found", "random")
        for one in sorted(record.result.get(kind, {}).get("selection", ()), key=lambda one: -one["mean"])
    ]
    if not rows:
        return ""
    words = f"Short trainings of {record.config['selection']['epochs']} epochs, judged on held-out images."
    head = ["", "held-out accuracy", "architecture"]
    return f'<h2>Selection</h2><p class="quiet">{words}</p><div class="panel">{table(head, rows, {1})}</div>'


def _seeds(record: EvaluationRecord) -> str:
    rows = []
    for kind in ("found", "random"):
        entry = record.result.get(kind) or {}
        for number, seed in enumerate(record.result["seeds"] if entry else ()):
            last = [record.history[kind][name][number, -1] for name in ("loss", "accuracy")]
            numbers = [f"{last[0]:.4g}", percent(float(last[1])), percent(entry["test"]["accuracy"][number])]
            rows.append([str(seed), _word(record, kind), *numbers])
    head = ["seed", "", "training loss", "training accuracy", "test accuracy"]
    return f'<h2>Every seed</h2><div class="panel">{table(head, rows, {2, 3, 4})}</div>'


def _substitutes(record: EvaluationRecord) -> str:
    """Which convolution was replaced by what."""
    replaced = record.result["found"]["cost"].get("substitutes", ())
    if not replaced:
        return ""
    rows = [
        [
            f"<code>{text(one['layer'])}</code>",
            text(one["kind"].replace("_", " ")),
            str(one["setting"]),
            f"{one['params']:,}",
            f"{one['dense_params']:,}",
            f"{one['params'] / one['dense_params']:.3f}",
        ]
        for one in replaced
    ]
    head = ["layer", "substitute", "setting", "parameters", "dense", "share"]
    return f"<h2>Substitutes</h2>{folded(f'{len(rows)} convolutions', table(head, rows, {2, 3, 4, 5}))}"


def _settings(record: EvaluationRecord) -> str:
    rows = flat(record.result["versions"])
    rows.append(("device", record.result["device"]))
    return settings_section({"Config": flat(record.config), "Versions and device": rows})
