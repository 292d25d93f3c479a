"""The section of the report about the architecture's probabilities over time: heat maps, and a table of the end."""

from collections.abc import Mapping, Sequence

import numpy as np

from jaxnas.report.architecture import inks, part_title
from jaxnas.report.figures import short
from jaxnas.report.heatmaps import choice_panels, decisions
from jaxnas.report.markup import figure, folded, subscripts, text
from jaxnas.report.palette import channels
from jaxnas.report.record import Part, RunRecord, derived, part_of, parts, seeds


def probabilities(record: RunRecord) -> str:
    """Which option wins at which choice, and when: the selected seed in full, the others folded."""
    names = parts(record)
    if not names:
        return ""
    first, *others = seeds(record)
    palette = inks(record)
    used = dict.fromkeys(option for part in names for option in record.options[part])
    chips = "".join(f'<span><i style="background:{palette[each]}"></i>{text(each)}</span>' for each in used)
    seed = f" Seed {text(first)}, the selected one; the others are folded below." if others else ""
    words = f'<p class="quiet">Colour is the option, strength its probability. Framed: what was derived.{seed}</p>'
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


def _of_seed(record: RunRecord, name: str, seed: int) -> str:
    values = np.asarray(record.history[f"probabilities/{name}"][list(record.result["seeds"]).index(seed)])
    part, palette, chosen = part_of(record, name), inks(record), derived(record, name, seed)
    who, title = f"{name}-{seed}", part_title(name)
    one = "edge" if part.edges else "choice"
    largest = f"Full strength is {100 * values.max():.0f} %."
    left = figure(
        decisions(values, part, palette, chosen, f"decisions-{who}", f"Strongest option of every {one}, {name}"),
        f"The strongest option of every {one}. Right: the derived one. {largest}",
        title=f"{title}: who leads",
    )
    right = figure(
        _final_table(values[-1], part, palette, chosen), "Per cent after the last epoch.", title=f"{title}: the end"
    )
    order = "A row of panels for each node, a column for each source. " if part.edges else ""
    panels = figure(
        choice_panels(
            values, part, palette, chosen, f"panels-{who}", f"Probabilities over time, every {one} of {name}"
        ),
        f"{order}{largest}",
        title=f"{title}: every option of every {one}",
        scroll=True,
    )
    return f'<div class="panel"><div class="plots">{left}{right}</div></div>' + f'<div class="panel">{panels}</div>'


def _final_table(values: np.ndarray, part: Part, palette: Mapping[str, str], chosen: Sequence[str | None]) -> str:
    head = "".join(f"<th>{text(short(each))}</th>" for each in part.options)
    rows = []
    for number, (name, row) in enumerate(zip(part.rows, values, strict=True)):
        kept = chosen[number] if chosen else None
        cells = []
        for option, value in zip(part.options, row, strict=True):
            red, green, blue = (round(255 * channel) for channel in channels(palette[option]))
            # Never opaque, so that the page's ink stays legible on every colour, in both themes.
            background = f"rgb({red} {green} {blue} / {0.6 * value / values.max():.3f})"
            mark = ' class="kept"' if option == kept else ""
            cells.append(f'<td{mark} style="background:{background}">{100 * value:.1f}</td>')
        mark = ' class="kept"' if kept else ""
        rows.append(f"<tr><th{mark}>{subscripts(name)}</th>{''.join(cells)}</tr>")
    top = f"<thead><tr><th></th>{head}</tr></thead>"
    return f'<div class="scroll"><table class="heat">{top}<tbody>{"".join(rows)}</tbody></table></div>'
