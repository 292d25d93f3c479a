"""The figures of a lab experiment: curves with bands, or points with error bars, and their legend."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.markers import MarkerStyle

from jaxnas.evaluate.lab.findings import Curve, Figure
from jaxnas.report.lab_axes import set_ticks
from jaxnas.report.lab_labels import label_points
from jaxnas.report.markup import figure as figure_with_caption
from jaxnas.report.markup import text
from jaxnas.report.palette import CURVE_INKS, MUTED, PANEL, VARIABLES
from jaxnas.report.svg import canvas, inline, panel, style

WIDTH, HEIGHT = 480.0, 300.0
TOP, RIGHT, BOTTOM = 30.0, 14.0, 48.0  # pixels around the plot; the left edge leaves room for the numbers
LINE = 2.0
DASHES = ((), (4.5, 1.4), (1.0, 1.3), (6.0, 1.4, 1.0, 1.4))  # in widths of the line
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
FEW = 16  # lines through at most so many points show each of them
BINS = 300  # about as many as a plot has pixels: the parts of the x axis from which a long curve keeps its extremes


class Look(NamedTuple):
    """How a curve is drawn: its colour's stand-in, its dashes and the marker of its points."""

    ink: str
    dashes: tuple[float, ...]
    marker: str


def looks(figures: Iterable[Figure]) -> dict[str, Look]:
    """The looks of all labels in the figures of a page, in which a label has the same everywhere."""
    return looks_of(curve.label for figure in figures for curve in figure.curves)


def looks_of(labels: Iterable[str]) -> dict[str, Look]:
    """{label: look}, different for the first forty labels."""
    return {
        label: Look(CURVE_INKS[n % len(CURVE_INKS)], DASHES[(n + n // 20) % len(DASHES)], MARKERS[n % len(MARKERS)])
        for n, label in enumerate(dict.fromkeys(labels))
    }


def draw(figure: Figure, of_label: Mapping[str, Look], name: str) -> str:
    """The <figure> with title, plot, legend and caption. `name` is unique in the page.

    Values that are not finite leave gaps. A logarithmic axis cannot show values at or below zero; how many are missing
    is said below the figure, and an axis that would show none is linear. Where the lower end of a band is not positive,
    the band goes down to the edge.
    """
    log_x = figure.log_x and _any_positive(curve.x for curve in figure.curves)
    log_y = figure.log_y and _any_positive(curve.mean for curve in figure.curves)
    curves = [_shown(curve, log_x=log_x, log_y=log_y) for curve in figure.curves]
    missing = sum(_known(old) - _known(new) for old, new in zip(figure.curves, curves, strict=True))
    notes = [text(figure.caption)] if figure.caption else []
    if missing:
        points = "1 point at or below zero is" if missing == 1 else f"{missing:,} points at or below zero are"
        notes.append(f"{points} not on the logarithmic axis.")
    if not any(map(_known, curves)):
        plot, named = '<p class="quiet">There is no finite value to draw.</p>', False
    else:
        plot, named = _plot(figure, curves, of_label, name, log_x=log_x, log_y=log_y)
    legend = "" if named else _legend(figure.curves, of_label)
    return figure_with_caption(plot + legend, "<br>".join(notes), title=text(figure.title))


def _any_positive(arrays: Iterable[np.ndarray]) -> bool:
    return any(bool((np.asarray(values, float) > 0).any()) for values in arrays)


def _known(curve: Curve) -> int:
    return int(np.isfinite(np.asarray(curve.x, float) + np.asarray(curve.mean, float)).sum())


def _shown(curve: Curve, *, log_x: bool, log_y: bool) -> Curve:
    """The curve in float64, NaN where its axes cannot show it, and with the ends of its band where it has one."""
    x, mean = np.array(curve.x, float), np.array(curve.mean, float)
    x[~np.isfinite(x) | (log_x & (x <= 0))] = np.nan
    mean[~np.isfinite(x + mean) | (log_y & (mean <= 0))] = np.nan
    low, high = (mean if end is None else np.where(np.isnan(mean), np.nan, end) for end in (curve.low, curve.high))
    band = curve.low is not None or curve.high is not None
    return curve._replace(x=x, mean=mean, low=low if band else None, high=high if band else None)


def _thinned(curve: Curve, *, log_x: bool) -> Curve:
    """A curve with many points, by the extremes in each of BINS parts of the x axis: it looks the same."""
    if len(curve.x) <= 4 * BINS:
        return curve
    curve = _at(curve, np.isfinite(curve.x))
    places = np.log(curve.x) if log_x else curve.x
    if not len(places) or (np.diff(places) < 0).any():
        return curve
    parts = np.minimum((places - places[0]) / max(np.ptp(places), 1e-300) * BINS, BINS - 1).astype(int)
    starts = np.unique(parts, return_index=True)[1]
    kept = {0, len(places) - 1}
    for begin, end in zip(starts, [*starts[1:], len(places)], strict=True):
        part = curve.mean[begin:end]
        kept |= {int(begin), int(end) - 1}
        if np.isfinite(part).any():
            kept |= {int(begin + np.nanargmin(part)), int(begin + np.nanargmax(part))}
    return _at(curve, np.array(sorted(kept)))


def _at(curve: Curve, at: np.ndarray) -> Curve:
    """The points of a curve that `at` picks, by place or by a mask."""
    low, high = (None if values is None else values[at] for values in (curve.low, curve.high))
    return curve._replace(x=curve.x[at], mean=curve.mean[at], low=low, high=high)


def _plot(
    figure: Figure, curves: list[Curve], of_label: Mapping[str, Look], name: str, *, log_x: bool, log_y: bool
) -> tuple[str, bool]:
    """The <svg>, and whether every curve's label is in it, so that no legend is needed."""
    description = f"{figure.title}: {figure.y_label} against {figure.x_label}"
    with style():
        sheet = canvas(WIDTH, HEIGHT)
        axes = panel(sheet, 50, TOP, WIDTH - 50 - RIGHT, HEIGHT - TOP - BOTTOM)
        axes.set_xscale("log" if log_x else "linear")
        axes.set_yscale("log" if log_y else "linear")
        floor = _floor(curves) if log_y else -np.inf
        for number, curve in enumerate(curves):
            _draw_curve(axes, _thinned(curve, log_x=log_x), of_label[curve.label], f"tip-{number}", floor, len(curves))
        axes.margins(x=0.03, y=0.06)
        axes.autoscale_view()
        low, high = axes.get_ylim()
        if not log_y and low < 0 < high:
            axes.axhline(0, color=MUTED, linewidth=1, zorder=1)
        set_ticks(axes.xaxis, _shared(curves), log=log_x)
        longest = max(map(len, set_ticks(axes.yaxis, np.empty(0), log=log_y)), default=0)
        left = 14 + 6.0 * longest
        axes.set_position((left / WIDTH, BOTTOM / HEIGHT, 1 - (left + RIGHT) / WIDTH, 1 - (TOP + BOTTOM) / HEIGHT))
        axes.set_xlabel(figure.x_label, fontsize=11, labelpad=6)
        sheet.text(4 / WIDTH, 1 - 13 / HEIGHT, figure.y_label, color=MUTED, fontsize=11, va="center")
        single = [curve for curve in curves if curve.marks and _known(curve) == 1]
        ends = [(float(curve.x[at]), float(curve.mean[at])) for curve in single for at in [np.nanargmax(curve.mean)]]
        named = len(single) == len(curves) and label_points(axes, ends, [curve.label for curve in single])
        tips = {f"tip-{n}": curve.label for n, curve in enumerate(curves)}
        return inline(sheet, name, description, tips), named


def _floor(curves: Iterable[Curve]) -> float:
    """How far down bands go on a logarithmic axis: to their own end, but at most a decade below the lowest mean."""
    lowest = min(float(np.nanmin(curve.mean)) for curve in curves if _known(curve))
    ends = np.concatenate([np.ravel(curve.low) for curve in curves if curve.low is not None] or [[lowest]])
    return max(min([lowest, *ends[ends > 0]]), lowest / 10)


def _shared(curves: Iterable[Curve]) -> np.ndarray:
    """The places on the x axis where all the lines have their values; empty where these differ."""
    places = [tuple(np.unique(curve.x[np.isfinite(curve.x)])) for curve in curves if not curve.marks]
    return np.array(places[0] if places and len(set(places)) == 1 else ())


def _draw_curve(axes: Axes, curve: Curve, look: Look, gid: str, floor: float, among: int) -> None:
    known = np.isfinite(curve.mean)
    if not known.any():
        return
    # A point between two gaps is a line of no length, so that it needs a marker to be seen.
    around = np.pad(known, 1)
    neighbours = around[:-2] | around[2:]
    alone = np.flatnonzero(known & ~neighbours)
    points = list(np.flatnonzero(known)) if curve.marks or known.sum() <= FEW else list(alone)
    if curve.low is not None and curve.high is not None:
        low, high = np.maximum(curve.low, floor), np.maximum(curve.high, floor)
        if curve.marks or known.sum() == 1:
            axes.vlines(curve.x[known], low[known], high[known], color=look.ink, linewidth=1.4, alpha=0.6, zorder=2)
        else:
            shade = 0.16 if among <= 4 else 0.10
            axes.fill_between(curve.x, low, high, where=known, color=look.ink, alpha=shade, linewidth=0, zorder=1.5)
    (line,) = axes.plot(
        *(curve.x, curve.mean),
        color=look.ink,
        linewidth=LINE,
        linestyle="" if curve.marks else (0, look.dashes or None),
        marker=look.marker if points else "",
        markevery=points or None,
        markersize=7.5 if curve.marks else 6,
        markeredgecolor=PANEL,
        markeredgewidth=0.8,
        zorder=3,
    )
    line.set_gid(gid)


def _legend(curves: Iterable[Curve], of_label: Mapping[str, Look]) -> str:
    """Each curve's label beside a piece of it, in the order of the curves."""
    chips = []
    for curve in {curve.label: curve for curve in curves if curve.label}.values():
        look = of_label[curve.label]
        color = f"var({VARIABLES[look.ink]})"
        dashes = " ".join(f"{LINE * length:g}" for length in look.dashes) or "none"
        line = "" if curve.marks else f'<path d="M1 6H33" stroke="{color}" stroke-width="{LINE}" fill="none" '
        line += f'stroke-dasharray="{dashes}"/>' if line else ""
        few = curve.marks or np.isfinite(np.asarray(curve.mean, float)).sum() <= FEW
        mark = f'<path d="{_outline(look.marker, 7)}" transform="translate(17 6)" fill="{color}"/>' if few else ""
        sample = f'<svg viewBox="0 0 34 12" aria-hidden="true">{line}{mark}</svg>'
        chips.append(f"<span>{sample}{text(curve.label)}</span>")
    return f'<div class="legend">{"".join(chips)}</div>' if chips else ""


def _outline(marker: str, size: float) -> str:
    """A marker of Matplotlib as the path of an SVG, around the origin."""
    form = MarkerStyle(marker)
    shapes = form.get_path().transformed(form.get_transform()).to_polygons()
    return "".join(f"M{'L'.join(f'{size * x:.2f} {-size * y:.2f}' for x, y in np.asarray(shape))}Z" for shape in shapes)
