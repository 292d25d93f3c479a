"""The sections of the report about the result: its headline, the comparison, the seeds and the settings."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxnas.report.figures import comparison
from jaxnas.report.markup import (
    count,
    duration,
    figure,
    flat,
    mean_percent,
    percent,
    settings_section,
    table,
    text,
    tile,
)
from jaxnas.report.record import RunRecord, noun, of_seed


def headline(record: RunRecord) -> str:
    """What was searched, and its outcome in a row of tiles."""
    result = record.result
    number = len(result["seeds"])
    listed = ", ".join(str(seed) for seed in result["seeds"])
    line = f"{number} searches in one program, seeds {listed}" if number > 1 else f"seed {listed}"
    title = f"{text(result['method'])} on {text(result['data'])}"
    head = (
        f'<header><div class="eyebrow">Architecture search</div><h1>{title}</h1>'
        f'<p class="quiet">Space {text(result["space"])} · {line}</p></header>'
    )
    return head + f'<div class="tiles">{"".join(_tiles(record))}</div>'


def _tiles(record: RunRecord) -> list[str]:
    result, summary = record.result, record.result.get("summary", {})
    several = len(result["seeds"]) > 1
    cost, seconds = result.get("cost") or {}, result.get("seconds") or {}
    found, random, kind = summary.get("retrained_accuracy"), summary.get("random_accuracy"), noun(record)
    over = "test accuracy, mean ± sd over seeds" if several else "test accuracy, retrained"
    tiles = []
    if found and found.get("mean") is not None:
        tiles.append(tile(f"Found {kind}", mean_percent(found), over))
    if random and random.get("mean") is not None:
        tiles.append(tile(f"Random {kind}", mean_percent(random), "drawn from the same space, same budget"))
    tiles += _measured(record)
    if cost:
        whose = (
            f"of the stand-alone network, seed {text(result.get('selected_seed'))}"
            if several
            else "of the stand-alone network"
        )
        tiles.append(tile("Parameters", count(cost.get("params")), whose))
        tiles.append(tile("Mult-adds", count(cost.get("mult_adds")), "for one image"))
        tiles += [tile(_words(name), _cost(record, cost.get(name)), whose) for name in _other_costs(record)]
    if seconds:
        parts = [f"{text(name)} {duration(value)}".replace(" ", "&nbsp;") for name, value in seconds.items()]
        total = sum(value for value in seconds.values() if value is not None)
        tiles.append(tile("Time", duration(total), ", ".join(parts)))
    return tiles


def _measured(record: RunRecord) -> list[str]:
    """Tiles of accuracies that need no retraining, and of the cost that the search expected in the end."""
    tiles, over = [], ", mean ± sd over seeds" if len(record.result["seeds"]) > 1 else ""
    entries = record.result.get("per_seed") or ()
    metric = record.result.get("table_metric")
    best = f"; its best is {percent(record.table['best'])}" if "best" in record.table else ""
    notes = {
        "inherited_accuracy": ("Inherited weights", f"test accuracy with the supernet's weights{over}"),
        "true_accuracy": ("True accuracy", f"{text(metric) if metric else 'from the table'}{over}{best}"),
    }
    for name, (title, note) in notes.items():
        values = [entry[name] for entry in entries if entry.get(name) is not None]
        if values:
            tiles.append(tile(title, mean_percent(summary_of(values)), note))
    predictors = [entry["predictor"] for entry in entries if entry.get("predictor")]
    taus, errors = ([one[name] for one in predictors if one.get(name) is not None] for name in ("kendall", "rmse"))
    if errors:
        tau = f"{statistics.fmean(taus):.2f}" if taus else "&ndash;"
        note = f"Kendall's τ of held-out architectures{over}; error {percent(statistics.fmean(errors))}"
        tiles.append(tile("Predictor", tau, note))
    expected = np.asarray(record.history.get("logits_cost", np.zeros((0, 0))), float)
    ends = [row[np.isfinite(row)][-1] for row in expected if np.isfinite(row).any()]
    if ends:
        note = f"of what the logits stand for, at the end{', mean over seeds' if len(ends) > 1 else ''}"
        tiles.append(tile("Expected cost", _cost(record, float(np.mean(ends))), note))
    return tiles


def summary_of(values: Sequence[float]) -> dict[str, float | None]:
    """Mean and sample standard deviation; None where there are too few values."""
    return {
        "mean": statistics.fmean(values) if values else None,
        "std": statistics.stdev(values) if len(values) > 1 else None,
    }


def _other_costs(record: RunRecord) -> list[str]:
    """The costs that entries have beside parameters and mult-adds, such as a latency."""
    entries = (entry.get("cost") or {} for entry in (record.result, *record.result.get("per_seed", ())))
    names = dict.fromkeys(name for cost in entries for name in cost)
    return [name for name in names if name not in ("params", "mult_adds")]


def _cost(record: RunRecord, value: float | None) -> str:
    """A cost in the record's unit."""
    return f"{count(value)} <small>{text(record.cost_unit)}</small>" if value is not None else count(None)


def _words(name: str) -> str:
    words = name.replace("_", " ")
    return text(words[:1].upper() + words[1:])


def against_random(record: RunRecord) -> str:
    """Every seed's found cell against its random one, and the mean difference."""
    entries = [of_seed(record, seed) for seed in record.result["seeds"]]
    found = _accuracies({entry["seed"]: entry for entry in entries if entry})
    random = _accuracies({entry["seed"]: entry.get("random") or {} for entry in entries if entry})
    if not found:
        return ""
    selected = record.result.get("selected_seed")
    kind = noun(record)
    title = f"Test accuracy of found and random {kind}s for every seed"
    svg = comparison(found, random, selected, "comparison", title)
    words = f'<p class="quiet">No random {kind} was trained for comparison in this run.</p>'
    if random:
        gaps = [100 * (found[seed] - random[seed]) for seed in found if seed in random]
        gap, wins = statistics.fmean(gaps), sum(each > 0 for each in gaps)
        often = f", on average over {len(gaps)} seeds, and better for {wins} of them" if len(gaps) > 1 else ""
        words = (
            f"<p>With the same retraining budget the found {kind} is <b>{_told_gap(gap)}</b> a random {kind} of the "
            f"same space{often}.</p>"
        )
    if len(found) == 1:
        words += '<p class="quiet">One seed says little about chance: repeat the search with several.</p>'
    caption = f"Filled: the found {kind}. Open: the random {kind}." + (
        " Bold: the selected seed." if len(found) > 1 else ""
    )
    both = f'<div class="plots middle"><div>{words}</div>{figure(svg, caption)}</div>'
    return f'<h2>Found against random</h2><div class="panel">{both}</div>'


def _told_gap(points: float) -> str:
    if round(points, 2) == 0:
        return "as good as"
    return f"{abs(points):.2f} percentage points {'better' if points > 0 else 'worse'} than"


def _accuracies(entries: Mapping[int, Mapping[str, Any]]) -> dict[int, float]:
    known = {seed: entry.get("retrained_accuracy") for seed, entry in entries.items()}
    return {seed: float(accuracy) for seed, accuracy in known.items() if accuracy is not None}


ACCURACIES = {
    "search_accuracy": "search",
    "inherited_accuracy": "inherited",
    "retrained_accuracy": "test",
    "true_accuracy": "true",
}


def seed_table(record: RunRecord) -> str:
    """Accuracies, costs and genotypes of every seed, found and random; columns without a value are left out."""
    entries = [
        (seed, kind, one)
        for seed in record.result["seeds"]
        for kind, one in (("found", of_seed(record, seed)), ("random", of_seed(record, seed).get("random") or {}))
        if one
    ]
    if not entries:
        return ""
    accuracies = [
        name
        for name in ACCURACIES
        if name in ("search_accuracy", "retrained_accuracy") or any(one.get(name) is not None for _, _, one in entries)
    ]
    others = _other_costs(record)
    head = ["seed", noun(record), *map(ACCURACIES.__getitem__, accuracies), "parameters", "mult-adds"]
    head += [*(text(name.replace("_", " ")) for name in others), "genotype"]
    rows = []
    for seed, kind, one in entries:
        cost = one.get("cost") or {}
        name = one.get("genotype") or one.get("architecture") or ""
        cells = [percent(one.get(each)) for each in accuracies]
        cells += [count(cost.get(each)) for each in ("params", "mult_adds")]
        cells += [_cost(record, cost.get(each)) for each in others]
        shown = f"<details><summary>show</summary><code>{text(name)}</code></details>"
        rows.append([text(seed), kind, *cells, shown])
    numbers = range(2, len(head) - 1)
    return f'<h2>Every seed</h2><div class="panel">{table(head, rows, numbers)}</div>'


def settings(record: RunRecord) -> str:
    """The config and the versions, folded."""
    versions = flat(record.result.get("versions") or {})
    if record.result.get("device"):
        versions.append(("device", record.result["device"]))
    return settings_section({"Config": flat(record.config), "Versions and device": versions})
