"""The sections of the report about the way there: curves of the search and of retraining, probabilities over time."""

import numpy as np

from jaxnas.report.figures import Series, curves, shares, short
from jaxnas.report.heatmaps import decisions, edge_panels
from jaxnas.report.markup import figure, folded, source, text
from jaxnas.report.palette import ACCENT, MUTED, channels, color
from jaxnas.report.record import RunRecord, of_seed, parts, seeds
from jaxnas.report.sections import cell_of, part_title
from jaxnas.spaces.genotype import parse_genotype

Derived = dict[tuple[int, int], str]  # (source, node) -> operation


def search_curves(record: RunRecord) -> str:
    """Loss, accuracy, entropy and the operations' shares over the epochs of the search."""
    several = len(record.result["seeds"]) > 1
    averaged = f"Probability averaged over all edges{' and seeds' if several else ''}."
    panels = []
    for quantity in ("loss", "accuracy"):
        series = [
            Series(label, record.history[f"{split}_{quantity}"], ink, dashed)
            for split, label, ink, dashed in (("train", "train", MUTED, True), ("valid", "valid", ACCENT, False))
            if _known(record.history.get(f"{split}_{quantity}"))
        ]
        if series:
            svg = curves(series, f"search-{quantity}", f"{quantity} of the search", percent=quantity == "accuracy")
            panels.append(_panel(figure(svg, title=quantity.capitalize())))
    if _known(record.history.get("entropy")):
        svg = curves([Series("", record.history["entropy"])], "entropy", "Mean entropy of the edges")
        caption = "Mean over edges, in nats; 0 when every edge has decided."
        panels.append(_panel(figure(svg, caption, title="Entropy of the architecture")))
    if parts(record):
        series = [
            Series(part, settled(record.history[f"probabilities/{part}"]), ink, dashed)
            for part, (ink, dashed) in zip(parts(record), ((ACCENT, False), (MUTED, True)), strict=False)
        ]
        svg = curves(
            series, "settled", "Share of the edges whose leader is already the final one", percent=True, valued=False
        )
        caption = "Edges that keep their strongest operation from this epoch to the last."
        panels.append(_panel(figure(svg, caption, title="Edges that have decided")))
    for part in parts(record):
        probabilities = record.history[f"probabilities/{part}"]
        title = f"{part_title(part)}: share of each operation"
        svg = shares(
            probabilities, record.options[part], f"shares-{part}", f"Mean probability of each operation, {part}"
        )
        panels.append(_panel(figure(svg, averaged, title=title)))
    if not panels:
        return ""
    halves = "“train” is the half that fits the weights, “valid” the half that fits the architecture."
    note = " Thin lines are single seeds, strong ones their mean." if several else ""
    words = f'<p class="quiet">{halves}{note}</p>'
    return f'<h2>Search</h2>{words}<div class="plots">{"".join(panels)}</div>'


def settled(probabilities: np.ndarray) -> np.ndarray:
    """[seeds, epochs, edges, ops] -> [seeds, epochs], the share of edges whose strongest operation stays from then."""
    final = probabilities.argmax(axis=-1) == probabilities[:, -1:].argmax(axis=-1)
    kept = np.flip(np.logical_and.accumulate(np.flip(final, axis=1), axis=1), axis=1)
    return kept.mean(axis=-1)


def retraining_curves(record: RunRecord) -> str:
    """Loss and accuracy of the stand-alone networks while they are trained from scratch, found and random."""
    panels = []
    for quantity in ("loss", "accuracy"):
        series = [
            Series(kind, record.retraining[kind][quantity], ink, dashed)
            for kind, ink, dashed in (("random", MUTED, True), ("found", ACCENT, False))
            if _known(record.retraining.get(kind, {}).get(quantity))
        ]
        if series:
            svg = curves(series, f"retrain-{quantity}", f"{quantity} of retraining", percent=quantity == "accuracy")
            panels.append(_panel(figure(svg, title=f"Training {quantity}")))
    return f'<h2>Retraining from scratch</h2><div class="plots">{"".join(panels)}</div>' if panels else ""


def probabilities(record: RunRecord) -> str:
    """Which operation wins on which edge, and when: the selected seed in full, the others folded."""
    names = parts(record)
    if not names:
        return ""
    first, *others = seeds(record)
    used = dict.fromkeys(operation for part in names for operation in record.options[part])
    chips = "".join(f'<span><i style="background:{color(each)}"></i>{text(each)}</span>' for each in used)
    seed = f" Seed {text(first)}, the selected one; the others are folded below." if others else ""
    words = f'<p class="quiet">Colour is the operation, strength its probability. Framed: what was derived.{seed}</p>'
    full = "".join(_of_seed(record, part, first) for part in names)
    rest = "".join(
        folded(
            f"Seed {text(other)}",
            f'<div class="stack">{"".join(_of_seed(record, part, other) for part in names)}</div>',
        )
        for other in others
    )
    legend = f'<div class="chips">{chips}</div>'
    return f'<h2>Architecture probabilities</h2>{words}{legend}<div class="stack">{full}{rest}</div>'


def _of_seed(record: RunRecord, part: str, seed: int) -> str:
    values = np.asarray(record.history[f"probabilities/{part}"][list(record.result["seeds"]).index(seed)])
    operations, edges, derived = record.options[part], record.edges, derived_edges(record, part, seed)
    who, title = f"{part}-{seed}", part_title(part)
    largest = f"Full strength is {100 * values.max():.0f} %."
    left = figure(
        decisions(values, operations, edges, derived, f"decisions-{who}", f"Strongest operation of every edge, {part}"),
        f"The strongest operation of every edge. Right: the derived one. {largest}",
        title=f"{title}: who leads",
    )
    right = figure(
        _final_table(values[-1], record, part, derived), "Per cent after the last epoch.", title=f"{title}: the end"
    )
    panels = figure(
        edge_panels(
            values, operations, edges, derived, f"edges-{who}", f"Probabilities over time on every edge, {part}"
        ),
        f"A row of panels for each node, a column for each source. {largest}",
        title=f"{title}: every operation on every edge",
        scroll=True,
    )
    return f'<div class="panel"><div class="plots">{left}{right}</div></div>' + _panel(panels)


def derived_edges(record: RunRecord, part: str, seed: int) -> Derived:
    """The kept edges of one seed's derived cell, two for each node in turn."""
    genotype = of_seed(record, seed).get("genotype")
    if not genotype:
        return {}
    kept, _ = cell_of(parse_genotype(genotype), part)
    return {(from_state, number // 2): operation for number, (operation, from_state) in enumerate(kept)}


def _final_table(values: np.ndarray, record: RunRecord, part: str, derived: Derived) -> str:
    operations = record.options[part]
    head = "".join(f"<th>{text(short(each))}</th>" for each in operations)
    rows = []
    for (origin, node), row in zip(record.edges, values, strict=True):
        kept = derived.get((origin, node))
        cells = []
        for operation, value in zip(operations, row, strict=True):
            red, green, blue = (round(255 * channel) for channel in channels(color(operation)))
            # Never opaque, so that the page's ink stays legible on every colour, in both themes.
            background = f"rgb({red} {green} {blue} / {0.6 * value / values.max():.3f})"
            mark = ' class="kept"' if operation == kept else ""
            cells.append(f'<td{mark} style="background:{background}">{100 * value:.1f}</td>')
        mark = ' class="kept"' if kept else ""
        rows.append(f"<tr><th{mark}>{source(origin)} → {node}</th>{''.join(cells)}</tr>")
    top = f"<thead><tr><th></th>{head}</tr></thead>"
    return f'<div class="scroll"><table class="heat">{top}<tbody>{"".join(rows)}</tbody></table></div>'


def _known(values: np.ndarray | None) -> bool:
    return values is not None and bool(np.isfinite(values).any())


def _panel(content: str) -> str:
    return f'<div class="panel">{content}</div>'
