"""The section of the report about what was derived: cells as graphs, everything else as chains of labelled boxes."""

from collections.abc import Mapping

from jaxnas.report.cells import draw_cell, draw_graph
from jaxnas.report.figures import short
from jaxnas.report.markup import figure, percent, text
from jaxnas.report.palette import colors, text_on
from jaxnas.report.record import CELLS, RunRecord, cell_of, derived, noun, of_seed, part_of, seeds
from jaxnas.spaces.genotype import parse_genotype

ACCURACIES = {
    "search_accuracy": "search",
    "retrained_accuracy": "retrained",
    "inherited_accuracy": "with inherited weights",
    "true_accuracy": "true",
}


def part_title(part: str) -> str:
    """A part's name for a heading, as HTML."""
    title = {"normal": "Normal cell", "reduce": "Reduction cell"}.get(part, part.replace("_", " "))
    return text(title[:1].upper() + title[1:])


def inks(record: RunRecord) -> dict[str, str]:
    """{option: colour} of all the record's options; one that several parts have looks the same in all of them."""
    return colors(option for options in record.options.values() for option in options)


def derived_architecture(record: RunRecord) -> str:
    """Every seed's architecture as graphs or chains with its canonical text, the selected seed first."""
    panels = [_of_seed(record, seed) for seed in seeds(record) if of_seed(record, seed).get("genotype")]
    if not panels:
        return ""
    title, note = "Derived architecture", "Each box is a choice, in the order of the network."
    if record.edges:
        title = "Derived cells"
        note = (
            "c<sub>k&minus;2</sub> and c<sub>k&minus;1</sub> are the outputs of the two cells before. Each numbered "
            "node adds the operations that lead into it; pale lines are concatenated into the cell's output "
            "c<sub>k</sub>."
        )
    elif noun(record) == "cell":
        note = "Each numbered node adds the operations that lead into it; 0 is the cell's input."
    return f'<h2>{title}</h2><p class="quiet">{note}</p><div class="stack">{"".join(panels)}</div>'


def _of_seed(record: RunRecord, seed: int) -> str:
    entry, palette = of_seed(record, seed), inks(record)
    drawings = []
    for part in CELLS if record.edges else record.options:
        title = part_title(part)
        if record.edges:
            edges, concat = cell_of(parse_genotype(entry["genotype"]), part)
            fills = colors([*palette, *(operation for operation, _ in edges)])
            svg = draw_cell(edges, concat, f"cell-{part}-{seed}", f"{title} of seed {seed}", fills)
            drawings.append(figure(svg, title=title, scroll=True))
        elif derived(record, part, seed):
            drawings.append(_choices(record, part, seed, palette))
    accuracies = [
        f"{words} {percent(entry[name])}" for name, words in ACCURACIES.items() if entry.get(name) is not None
    ]
    chosen = ["selected"] if seed == record.result.get("selected_seed") and len(record.result["seeds"]) > 1 else []
    head = f'<p class="quiet">{" · ".join([f"<b>Seed {text(seed)}</b>", *chosen, *accuracies])}</p>'
    code = f'<code class="genotype">{text(entry["genotype"])}</code>'
    return f'<div class="panel">{head}<div class="cells">{"".join(drawings)}</div>{code}</div>'


def _choices(record: RunRecord, name: str, seed: int, palette: Mapping[str, str]) -> str:
    """One part of a derived architecture: a graph where its choices are edges, a chain of boxes where they are not."""
    part, options, title = part_of(record, name), derived(record, name, seed), part_title(name)
    heading = title if len(record.options) > 1 or part.edges else ""
    if part.edges:
        svg = draw_graph(part, options, palette, f"cell-{name}-{seed}", f"{title} of seed {seed}")
        return figure(svg, title=heading, scroll=True)
    boxes = "".join(
        f'<li style="background:{palette[option]};color:{text_on(palette[option])}">'
        f"<small>{text(row)}</small>{text(short(option))}</li>"
        for row, option in zip(part.rows, options, strict=True)
        if option
    )
    return figure(f'<ol class="chain">{boxes}</ol>', title=heading)
