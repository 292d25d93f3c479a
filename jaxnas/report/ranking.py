"""The figure of how methods judge the same architectures with shared weights, beside what these reach by themselves."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from jaxnas.report.palette import ACCENT, INK
from jaxnas.report.svg import canvas, inline, panel, style

COLUMNS, WIDTH, SIDE = 3, 940.0, 200.0  # panels in a row; of the figure and of a panel's height, in pixels
LEFT, GAP, HEAD, FOOT = 56.0, 34.0, 30.0, 52.0


def ranking_figure(rows: Sequence[Mapping[str, Any]]) -> str:
    """The <svg> of a panel for each row: accuracy by shared weights across, accuracy by itself upwards, in per cent.

    rows: with "name", "ranked" ({"judged": [seeds][architectures], "true": [architectures]}, None where an architecture
    is not known) and "rank_correlation", None where there is none. A dot is an architecture, the mean over seeds.
    """
    points = [_points(row["ranked"]) for row in rows]
    low, high = (edge(np.concatenate([true for _, true in points])) for edge in (np.min, np.max))
    room = max(0.06 * (high - low), 0.1)
    lines = -(-len(rows) // COLUMNS)
    width = (WIDTH - LEFT) / COLUMNS - GAP
    with style():
        sheet = canvas(WIDTH, lines * (SIDE + HEAD + FOOT))
        for number, (row, (judged, true)) in enumerate(zip(rows, points, strict=True)):
            line, column = divmod(number, COLUMNS)
            axes = panel(sheet, LEFT + column * (width + GAP), HEAD + line * (SIDE + HEAD + FOOT), width, SIDE)
            axes.scatter(judged, true, s=26, color=ACCENT, alpha=0.6, linewidths=0)
            axes.set_ylim(low - room, high + room)
            axes.margins(x=0.1)
            axes.xaxis.set_major_locator(MaxNLocator(5))
            axes.set_title(f"{row['name']}{_told(row)}", color=INK)
            axes.set_xlabel("with shared weights, %", fontsize=10)
            if column:
                axes.tick_params(labelleft=False)
            else:
                axes.set_ylabel("by itself, %", fontsize=10)
        return inline(sheet, "ranking", "Accuracy of random architectures by themselves against that by shared weights")


def _points(ranked: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Accuracies of the architectures whose own is known, in per cent: by shared weights and by themselves."""
    judged, true = np.mean(np.asarray(ranked["judged"], float), axis=0), np.asarray(ranked["true"], float)
    known = np.isfinite(true)
    return 100 * judged[known], 100 * true[known]


def _told(row: Mapping[str, Any]) -> str:
    return "" if row.get("rank_correlation") is None else f", τ = {row['rank_correlation']:.2f}"
