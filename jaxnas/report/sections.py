"""The sections of the report about the result: its headline, the comparison, the cells, the seeds and the settings."""

import statistics
from collections.abc import Mapping
from typing import Any

from jaxnas.report.cells import draw_cell
from jaxnas.report.figures import comparison
from jaxnas.report.markup import count, duration, figure, flat, mean_percent, percent, settings_section, table, text
from jaxnas.report.record import RunRecord, of_seed, seeds
from jaxnas.spaces.genotype import Genotype, parse_genotype


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
    found, random = summary.get("retrained_accuracy"), summary.get("random_accuracy")
    over = "test accuracy, mean ± sd over seeds" if several else "test accuracy, retrained"
    tiles = []
    if found and found.get("mean") is not None:
        tiles.append(_tile("Found cell", mean_percent(found), over))
    if random and random.get("mean") is not None:
        tiles.append(_tile("Random cell", mean_percent(random), "drawn from the same space, same budget"))
    if cost:
        whose = (
            f"of the stand-alone network, seed {text(result.get('selected_seed'))}"
            if several
            else "of the stand-alone network"
        )
        tiles.append(_tile("Parameters", count(cost.get("params")), whose))
        tiles.append(_tile("Mult-adds", count(cost.get("mult_adds")), "for one image"))
    if seconds:
        parts = [f"{text(name)} {duration(value)}".replace(" ", "&nbsp;") for name, value in seconds.items()]
        total = sum(value for value in seconds.values() if value is not None)
        tiles.append(_tile("Time", duration(total), ", ".join(parts)))
    return tiles


def _tile(name: str, value: str, note: str) -> str:
    return f'<div class="panel tile"><span class="name">{name}</span><b>{value}</b><span>{note}</span></div>'


def against_random(record: RunRecord) -> str:
    """Every seed's found cell against its random one, and the mean difference."""
    entries = [of_seed(record, seed) for seed in record.result["seeds"]]
    found = _accuracies({entry["seed"]: entry for entry in entries if entry})
    random = _accuracies({entry["seed"]: entry.get("random") or {} for entry in entries if entry})
    if not found:
        return ""
    selected = record.result.get("selected_seed")
    svg = comparison(found, random, selected, "comparison", "Test accuracy of found and random cells for every seed")
    words = '<p class="quiet">No random cell was trained for comparison in this run.</p>'
    if random:
        gaps = [100 * (found[seed] - random[seed]) for seed in found if seed in random]
        gap, wins = statistics.fmean(gaps), sum(each > 0 for each in gaps)
        often = f", on average over {len(gaps)} seeds, and better for {wins} of them" if len(gaps) > 1 else ""
        words = (
            f"<p>With the same retraining budget the found cell is <b>{abs(gap):.2f} percentage points "
            f"{'better' if gap >= 0 else 'worse'}</b> than a random cell of the same space{often}.</p>"
        )
    if len(found) == 1:
        words += '<p class="quiet">One seed says little about chance: repeat the search with several.</p>'
    caption = "Filled: the found cell. Open: the random cell." + (" Bold: the selected seed." if len(found) > 1 else "")
    both = f'<div class="plots middle"><div>{words}</div>{figure(svg, caption)}</div>'
    return f'<h2>Found against random</h2><div class="panel">{both}</div>'


def _accuracies(entries: Mapping[int, Mapping[str, Any]]) -> dict[int, float]:
    known = {seed: entry.get("retrained_accuracy") for seed, entry in entries.items()}
    return {seed: float(accuracy) for seed, accuracy in known.items() if accuracy is not None}


def cell_of(genotype: Genotype, part: str) -> tuple[tuple[tuple[str, int], ...], tuple[int, ...]]:
    """The edges and the concatenated states of a part of a genotype; both empty for a part that it does not have."""
    cells = {
        "normal": (genotype.normal, genotype.normal_concat),
        "reduce": (genotype.reduce, genotype.reduce_concat),
    }
    return cells.get(part, ((), ()))


def part_title(part: str) -> str:
    """A part's name for a heading, as HTML."""
    return {"normal": "Normal cell", "reduce": "Reduction cell"}.get(part) or text(part)


def derived_cells(record: RunRecord) -> str:
    """Every seed's cells as graphs with the genotype, the selected seed first."""
    panels = [_cells_of_seed(record, seed) for seed in seeds(record) if of_seed(record, seed).get("genotype")]
    if not panels:
        return ""
    note = (
        "c<sub>k&minus;2</sub> and c<sub>k&minus;1</sub> are the outputs of the two cells before. Each numbered node "
        "adds the operations that lead into it; pale lines are concatenated into the cell's output c<sub>k</sub>."
    )
    return f'<h2>Derived cells</h2><p class="quiet">{note}</p><div class="stack">{"".join(panels)}</div>'


def _cells_of_seed(record: RunRecord, seed: int) -> str:
    entry = of_seed(record, seed)
    genotype = parse_genotype(entry["genotype"])
    drawings = []
    for part in ("normal", "reduce"):
        edges, concat = cell_of(genotype, part)
        title = part_title(part)
        svg = draw_cell(edges, concat, f"cell-{part}-{seed}", f"{title} of seed {seed}")
        drawings.append(figure(svg, title=title, scroll=True))
    accuracies = [
        f"{words} {percent(entry[name])}"
        for words, name in (("search", "search_accuracy"), ("retrained", "retrained_accuracy"))
        if entry.get(name) is not None
    ]
    chosen = ["selected"] if seed == record.result.get("selected_seed") and len(record.result["seeds"]) > 1 else []
    head = f'<p class="quiet">{" · ".join([f"<b>Seed {text(seed)}</b>", *chosen, *accuracies])}</p>'
    code = f'<code class="genotype">{text(entry["genotype"])}</code>'
    return f'<div class="panel">{head}<div class="cells">{"".join(drawings)}</div>{code}</div>'


def seed_table(record: RunRecord) -> str:
    """Accuracies, costs and genotypes of every seed, found and random."""
    head = ["seed", "cell", "search", "test", "parameters", "mult-adds", "genotype"]
    rows = []
    for seed in record.result["seeds"]:
        entry = of_seed(record, seed)
        for kind, cell in (("found", entry), ("random", entry.get("random") or {})):
            if not cell:
                continue
            cost = cell.get("cost") or {}
            name = cell.get("genotype") or cell.get("architecture") or ""
            accuracies = [percent(cell.get(each)) for each in ("search_accuracy", "retrained_accuracy")]
            costs = [count(cost.get(each)) for each in ("params", "mult_adds")]
            shown = f"<details><summary>show</summary><code>{text(name)}</code></details>"
            rows.append([text(seed), kind, *accuracies, *costs, shown])
    if not rows:
        return ""
    return f'<h2>Every seed</h2><div class="panel">{table(head, rows, numbers={2, 3, 4, 5})}</div>'


def settings(record: RunRecord) -> str:
    """The config and the versions, folded."""
    versions = flat(record.result.get("versions") or {})
    if record.result.get("device"):
        versions.append(("device", record.result["device"]))
    return settings_section({"Config": flat(record.config), "Versions and device": versions})
