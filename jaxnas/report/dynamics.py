"""The sections of the report about the way there: curves of the search, its signs of collapse, and of retraining."""

import numpy as np

from jaxnas.report.architecture import inks, part_title
from jaxnas.report.collapse import smoothed
from jaxnas.report.figures import Series, curves, shares
from jaxnas.report.markup import figure, text
from jaxnas.report.palette import ACCENT, MUTED, colors
from jaxnas.report.record import RunRecord, part_of, parts


def search_curves(record: RunRecord) -> str:
    """Loss, accuracy, cost, entropy and the options' shares over the epochs of the search."""
    several = len(record.result["seeds"]) > 1
    panels = [*_losses(record), *_cost(record), *_decisions(record), *_shares(record)]
    if not panels:
        return ""
    halves = "“train” is the half that fits the weights, “valid” the half that fits the architecture."
    note = " Thin lines are single seeds, strong ones their mean." if several else ""
    staged = " Dotted verticals part the stages of the search." if len(record.stages) > 1 else ""
    words = f'<p class="quiet">{halves}{note}{staged}</p>'
    return f'<h2>Search</h2>{words}<div class="plots">{"".join(panels)}</div>'


def _losses(record: RunRecord) -> list[str]:
    panels = []
    for quantity in ("loss", "accuracy"):
        series = [
            Series(label, record.history[f"{split}_{quantity}"], ink, dashed)
            for split, label, ink, dashed in (("train", "train", MUTED, True), ("valid", "valid", ACCENT, False))
            if _known(record.history.get(f"{split}_{quantity}"))
        ]
        if series:
            percent = quantity == "accuracy"
            words = f"{quantity} of the search"
            svg = curves(series, f"search-{quantity}", words, percent=percent, stages=record.stages)
            panels.append(_panel(figure(svg, title=quantity.capitalize())))
    return panels


def _cost(record: RunRecord) -> list[str]:
    if not _known(record.history.get("logits_cost")):
        return []
    svg = curves([Series("", record.history["logits_cost"])], "cost", "Expected cost", stages=record.stages)
    unit = f", in {text(record.cost_unit)}" if record.cost_unit else ""
    caption = f"Of the architectures that the logits stand for{unit}; a gap where they did not learn."
    return [_panel(figure(svg, caption, title="Expected cost"))]


def _decisions(record: RunRecord) -> list[str]:
    panels, word = [], _choices(record)
    if _known(record.history.get("entropy")):
        series = [Series("", record.history["entropy"])]
        svg = curves(series, "entropy", f"Mean entropy of the {word}", stages=record.stages)
        caption = f"Mean over {word}, in nats; 0 when all have decided."
        panels.append(_panel(figure(svg, caption, title="Entropy of the architecture")))
    if parts(record):
        lines = [(ACCENT, False), (MUTED, True), *((ink, False) for ink in colors(record.options).values())]
        series = [
            Series(part, settled(record.history[f"probabilities/{part}"]), ink, dashed)
            for part, (ink, dashed) in zip(parts(record), lines, strict=False)
        ]
        words = f"Share of the {word} whose leader is already the final one"
        svg = curves(series, "settled", words, percent=True, valued=False, stages=record.stages)
        caption = f"{word.capitalize()} that keep their strongest option from this epoch to the last."
        panels.append(_panel(figure(svg, caption, title=f"{word.capitalize()} that have decided")))
    return panels


def _shares(record: RunRecord) -> list[str]:
    panels, palette = [], inks(record)
    seeded = " and seeds" if len(record.result["seeds"]) > 1 else ""
    for part in parts(record):
        values, options = record.history[f"probabilities/{part}"], record.options[part]
        words = f"Mean probability of each option, {part}"
        svg = shares(values, options, palette, f"shares-{part}", words, record.stages)
        caption = f"Probability averaged over all {_choices(record)}{seeded}."
        panels.append(_panel(figure(svg, caption, title=f"{part_title(part)}: share of each option")))
    return panels


def _choices(record: RunRecord) -> str:
    """What choices are called: edges where all of them are, else choices."""
    return "edges" if all(part_of(record, part).edges for part in record.options) else "choices"


def settled(probabilities: np.ndarray) -> np.ndarray:
    """[seeds, epochs, choices, options] -> [seeds, epochs], the share of choices whose leader stays from then on."""
    final = probabilities.argmax(axis=-1) == probabilities[:, -1:].argmax(axis=-1)
    kept = np.flip(np.logical_and.accumulate(np.flip(final, axis=1), axis=1), axis=1)
    return kept.mean(axis=-1)


def true_accuracy(record: RunRecord) -> str:
    """The accuracy that a table gives for what was derived at every epoch, beside the table's best and mean."""
    panels = []
    levels = [(name, float(record.table[name])) for name in ("best", "mean") if name in record.table]
    for quantity, values in record.true.items():
        if not _known(values):
            continue
        words = f"True {quantity} of the architecture derived at every epoch"
        svg = curves(
            [Series("derived", values)], f"true-{quantity}", words, percent=True, levels=levels, stages=record.stages
        )
        metric = record.result.get("table_metric")
        source = f" {text(metric)}." if metric else ""
        panels.append(_panel(figure(svg, f"{words}.{source}", title=f"True {text(quantity)}")))
    if not panels:
        return ""
    words = "What a table of trained architectures says of the one that would have been derived at each epoch."
    lines = " Dashed: the best and the mean of all architectures of the table." if levels else ""
    return f'<h2>True accuracy</h2><p class="quiet">{words}{lines}</p><div class="plots">{"".join(panels)}</div>'


def signs_of_collapse(record: RunRecord) -> str:
    """What collapses show in: shares of identities, pools and one option, entropies, and the curvature of the loss."""
    panels = []
    for part in record.options:
        series = [
            Series(label, record.history[f"{kind}/{part}"], ink, dashed)
            for kind, label, ink, dashed in SIGNS
            if _known(record.history.get(f"{kind}/{part}"))
        ]
        if series:
            words = f"Shares of the choices of {part}"
            svg = curves(series, f"signs-{part}", words, percent=True, stages=record.stages)
            caption = "Shares of the choices of the architecture derived at every epoch."
            panels.append(_panel(figure(svg, caption, title=f"{part_title(part)}: what was chosen")))
        if _known(record.history.get(f"entropy/{part}")):
            panels.append(_panel(_entropies(record, part)))
    if _known(record.history.get("curvature")):
        panels.append(_panel(_curvature(record)))
    if not panels:
        return ""
    words = (
        "Identities or pools that take over, entropies that fall early and a curvature that grows announce that a "
        "search ends in an architecture that is worse than its supernet."
    )
    return f'<h2>Signs of collapse</h2><p class="quiet">{words}</p><div class="plots">{"".join(panels)}</div>'


SIGNS = (
    ("skips", "identities", colors(["skip_connect"])["skip_connect"], False),
    ("pools", "pools", colors(["max_pool_3x3"])["max_pool_3x3"], False),
    ("dominant", "most frequent", MUTED, True),
)


def _entropies(record: RunRecord, part: str) -> str:
    values = np.asarray(record.history[f"entropy/{part}"])
    series = [
        Series("highest", values.max(axis=-1), MUTED, True),
        Series("mean", values.mean(axis=-1), ACCENT),
        Series("lowest", values.min(axis=-1), MUTED, False),
    ]
    fair = np.log(len(record.options[part]))
    svg = curves(series, f"entropy-{part}", f"Entropies of {part}", levels=[("fair", fair)], stages=record.stages)
    caption = "Lowest, mean and highest of all choices, in nats; dashed: all options equal."
    return figure(svg, caption, title=f"{part_title(part)}: entropy")


def _curvature(record: RunRecord) -> str:
    values = np.asarray(record.history["curvature"], float)
    series = [
        Series("measured", values, MUTED, True),
        Series("smoothed", np.stack([smoothed(row) for row in values]), ACCENT),
    ]
    series = [one for one in series if _known(one.values)]
    svg = curves(series, "curvature", "Curvature of the validation loss in the logits", stages=record.stages)
    caption = "Dominant eigenvalue of the Hessian of the validation loss in the logits; strong: mean of five epochs."
    return figure(svg, caption, title="Curvature")


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


def _known(values: np.ndarray | None) -> bool:
    return values is not None and bool(np.isfinite(values).any())


def _panel(content: str) -> str:
    return f'<div class="panel">{content}</div>'
