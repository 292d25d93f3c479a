"""The curves of a run: loss and accuracy over epochs, shares of the options, found cells against random ones."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from jaxnas.report.cell_layout import isotonic
from jaxnas.report.palette import ACCENT, GRID, INK, MUTED, PANEL
from jaxnas.report.svg import canvas, end_at_hundred, inline, panel, style

WIDTH, HEIGHT = 480.0, 260.0
TOP, LEFT, BOTTOM = 18.0, 44.0, 40.0  # pixels around the plot; the right edge leaves room for the names of the curves


class Series(NamedTuple):
    """One quantity over epochs: values [seeds, epochs]; a thin line for each seed and a strong one for their mean."""

    label: str
    values: np.ndarray
    color: str = ACCENT
    dashed: bool = False


def curves(
    series: Sequence[Series],
    name: str,
    description: str,
    *,
    percent: bool = False,
    valued: bool = True,
    levels: Sequence[tuple[str, float]] = (),
    stages: Sequence[tuple[str, int]] = (),
) -> str:
    """The <svg> of quantities over epochs, each named at its end, with the last mean value where `valued`.

    `percent` shows fractions as per cent. Values that are not finite leave a gap. levels: (name, value) of horizontal
    lines to compare with. stages: (name, epochs) of the stages of the search, which vertical lines part.
    """
    scale, form = (100.0, "{:.1f}%") if percent else (1.0, "{:.3g}")
    with style():
        figure, axes = _plot(WIDTH, HEIGHT)
        ends = []
        for label, value in levels:
            axes.axhline(value * scale, color=MUTED, linewidth=1.2, linestyle=(0, (2, 2)))
            ends.append((value * scale, f"{label} {form.format(value * scale)}", MUTED))
        for one in series:
            mean = _draw_series(axes, one, scale)
            last = mean[np.isfinite(mean)][-1:]
            ends += [
                (value, f"{one.label} {form.format(value) if valued else ''}".strip(), one.color) for value in last
            ]
        epochs = max(one.values.shape[1] for one in series)
        right = max(96.0, 18 + 6.2 * max((len(text) for _, text, _ in ends), default=0))
        axes.set_position((LEFT / WIDTH, BOTTOM / HEIGHT, 1 - (LEFT + right) / WIDTH, 1 - (TOP + BOTTOM) / HEIGHT))
        axes.set_xlim(1 if epochs > 1 else 0.5, max(epochs, 1.5))
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10]))
        axes.set_xlabel("epoch", fontsize=10)
        _mark_stages(axes, stages, epochs)
        _label_ends(axes, ends)
        return inline(figure, name, description)


def shares(
    probabilities: np.ndarray,
    options: Sequence[str],
    inks: Mapping[str, str],
    name: str,
    description: str,
    stages: Sequence[tuple[str, int]] = (),
) -> str:
    """The <svg> of every option's probability, averaged over choices and seeds: [seeds, epochs, choices, options].

    inks: {option: colour}; stages: as for `curves`.
    """
    means = probabilities.mean(axis=(0, 2))
    series = [Series(short(each), means[None, :, number], inks[each]) for number, each in enumerate(options)]
    return curves(series, name, description, percent=True, stages=stages)


def comparison(
    found: Mapping[int, float], random: Mapping[int, float], selected: int | None, name: str, description: str
) -> str:
    """The <svg> of test accuracies {seed: fraction}, a row for each seed: filled the found cell, open the random."""
    seeds = list(dict.fromkeys((*found, *random)))
    with style():
        figure, axes = _plot(WIDTH, 62.0 + 26 * len(seeds), left=72.0, right=20.0)
        for row, seed in enumerate(seeds):
            values = [100 * table[seed] for table in (random, found) if seed in table]
            axes.plot(values, [row] * len(values), color=GRID, linewidth=3, zorder=1)
        # The open ring is the larger one, so that it shows around the dot where the two tie.
        for table, ink, fill, size in ((random, MUTED, PANEL, 84), (found, ACCENT, ACCENT, 40)):
            rows = [seeds.index(seed) for seed in table]
            values = [100 * value for value in table.values()]
            axes.scatter(values, rows, s=size, edgecolors=ink, facecolors=fill, linewidths=1.8, zorder=2)
        axes.set_ylim(len(seeds) - 0.4, -0.6)
        axes.set_yticks(range(len(seeds)), [f"seed {seed}" for seed in seeds])
        for label, seed in zip(axes.get_yticklabels(), seeds, strict=True):
            label.set(color=INK if seed == selected else MUTED, fontweight="bold" if seed == selected else "normal")
        axes.margins(x=0.12)
        end_at_hundred(axes)
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("test accuracy after retraining, %", fontsize=10)
        return inline(figure, name, description)


def short(operation: str) -> str:
    """An operation's name for narrow places: sep_conv_3x3 -> sep 3×3, skip_connect -> skip."""
    words = re.sub(r"_(conv|pool|connect)(?=_|$)", "", operation)
    return re.sub(r"(?<=\d)x(?=\d)", "\N{MULTIPLICATION SIGN}", words).replace("_", " ")


def _plot(width: float, height: float, left: float = LEFT, right: float = 96.0) -> tuple[Figure, Axes]:
    """A plot in a figure of this size, with room for ticks and labels around it, all in pixels."""
    figure = canvas(width, height)
    return figure, panel(figure, left, TOP, width - left - right, height - TOP - BOTTOM)


def _mean(values: np.ndarray) -> np.ndarray:
    """The mean over the seeds that have a value, NaN where none has: [seeds, epochs] -> [epochs]."""
    known = np.isfinite(values)
    return np.where(known.any(axis=0), np.where(known, values, 0).sum(axis=0), np.nan) / np.maximum(
        known.sum(axis=0), 1
    )


def _draw_series(axes: Axes, one: Series, scale: float) -> np.ndarray:
    """Draws every seed and the mean of all, values times `scale`; returns the mean [epochs], NaN where nothing is."""
    values = np.where(np.isfinite(one.values), one.values, np.nan) * scale
    epochs, mean = np.arange(1, values.shape[1] + 1), _mean(values)
    if len(values) > 1:
        for row in values:
            axes.plot(epochs, row, color=one.color, linewidth=0.9, alpha=0.35)
    look: dict[str, Any] = {"linestyle": "--" if one.dashed else "-", "linewidth": 2.2}
    axes.plot(epochs, mean, color=one.color, marker="o", markersize=5, markevery=_alone(mean), **look)
    return mean


def _alone(values: np.ndarray) -> list[int]:
    """Where a value stands between two gaps: a line of no length, which needs a marker to be seen."""
    around = np.pad(np.isfinite(values), 1)
    return np.flatnonzero(around[1:-1] & ~around[:-2] & ~around[2:]).tolist()


def _mark_stages(axes: Axes, stages: Sequence[tuple[str, int]], epochs: int) -> None:
    """A line where each stage begins but the first, and its name above the plot, or along the line of a short one."""
    first, last = axes.get_xlim()
    pixels = axes.bbox.width * 72 / axes.figure.dpi / (last - first)
    begin = 0
    for name, count in stages if len(stages) > 1 else ():
        if begin >= epochs:
            break
        at = max(begin + 0.5, first)  # between the last epoch of one stage and the first of the next
        if begin:
            axes.axvline(at, color=MUTED, linewidth=1.0, linestyle=(0, (1, 2)))
        room = pixels * (min(begin + count + 0.5, last) - at)
        place = {"transform": axes.get_xaxis_transform(), "color": MUTED, "fontsize": 10}
        if room >= 6.2 * len(name):
            axes.text(at, 1.015, name, va="bottom", ha="left", **place)
        else:
            axes.text(at, 0.98, name, va="top", ha="left", rotation=90, **place)
        begin += count


def _label_ends(axes: Axes, ends: Sequence[tuple[float, str, str]]) -> None:
    """Writes (value, text, colour) to the right of a plot, level with the value but never on top of each other."""
    low, high = axes.get_ylim()
    line = 15 / (axes.bbox.height * 72 / axes.figure.dpi)  # the height of a line of text in units of the axes
    wanted = sorted(((value - low) / (high - low), text, ink) for value, text, ink in ends)
    spread = isotonic([at - number * line for number, (at, _, _) in enumerate(wanted)])
    for number, (base, (at, text, ink)) in enumerate(zip(spread, wanted, strict=True)):
        y = base + number * line
        axes.plot((1.005, 1.03), (at, y), color=ink, linewidth=1.4, transform=axes.transAxes, clip_on=False)
        axes.text(1.04, y, text, transform=axes.transAxes, color=INK, fontsize=10, va="center_baseline")
