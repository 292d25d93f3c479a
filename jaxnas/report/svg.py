"""Matplotlib figures as SVG that can stand inside an HTML page: themed, without identifiers that collide."""

import contextlib
import html
import io
import re
from collections.abc import Iterator, Mapping

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxnas.report.palette import GRID, INK, MUTED, VARIABLES

_STYLE = {
    "font.size": 11,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": GRID,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.linewidth": 1.0,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.facecolor": "none",
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": GRID,
    "xtick.labelcolor": MUTED,
    "ytick.color": GRID,
    "ytick.labelcolor": MUTED,
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
    "ytick.major.size": 0,
    "xtick.major.size": 3,
    "lines.solid_capstyle": "round",
    "svg.fonttype": "none",  # text stays text: small, sharp, and found by a search in the page
    "svg.hashsalt": "jaxnas",
    "text.parse_math": False,  # names are names, whatever signs they hold
}


@contextlib.contextmanager
def style() -> Iterator[None]:
    """Matplotlib's settings for the figures of the report, whatever the user's own are; put back afterwards."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams |= _STYLE
        yield


def canvas(width: float, height: float) -> Figure:
    """An empty figure of this size in CSS pixels."""
    return Figure(figsize=(width / 72, height / 72))


def end_at_hundred(axes: Axes) -> None:
    """Ends an x axis of percentages, with its margins, where these end: just beyond 100."""
    low, high = axes.get_xlim()
    axes.set_xlim(low, min(high, 100 + 0.04 * (100 - low)))


def panel(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Adds axes to a figure at a place in pixels from its upper left corner."""
    whole_width, whole_height = figure.get_size_inches() * 72
    bottom = whole_height - top - height
    place = left / whole_width, bottom / whole_height, width / whole_width, height / whole_height
    return figure.add_axes(place)


def inline(figure: Figure, name: str, description: str, tips: Mapping[str, str] | None = None) -> str:
    """The <svg> element of a figure. `name` has to be unique in the page; `description` is for those who cannot see it.

    `tips`: the text that shows while the pointer rests on an artist, by the artist's gid.
    Must be called inside `style()`. One point of the figure is one CSS pixel. The same figure gives the same text.
    """
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    text = re.sub(r"<style .*?</style>|<defs>\s*</defs>\s*", "", text, flags=re.DOTALL)
    text = re.sub(r"font-family:[^;\"]*;?\s*|font: (?:(\w+) )?([\d.]+px)[^;\"]*", _font, text)
    text = text.replace("xlink:href", "href")
    for gid, tip in (tips or {}).items():
        text = text.replace(f'<g id="{gid}">', f"<g><title>{html.escape(tip)}</title>")
    text = _with_own_identifiers(text, name)
    for stand_in, variable in VARIABLES.items():
        text = text.replace(stand_in, f"var({variable})")
    text = re.sub(r"c_\{(.*?)\}([^<]*)", _subscript, text)
    size = [round(float(value)) for value in figure.get_size_inches() * 72]
    label = html.escape(description)
    opening = (
        f'<svg width="{size[0]}" height="{size[1]}" viewBox="0 0 {size[0]} {size[1]}" role="img" aria-label="{label}">'
    )
    return opening + text[text.index(">") + 1 :].strip()


def _font(match: re.Match[str]) -> str:
    """Keeps the size and weight; the family is the page's (older Matplotlib writes all three as one property)."""
    if match[2] is None:
        return ""
    return f"font-size: {match[2]}; font-weight: {match[1] or 'normal'}"


def _with_own_identifiers(text: str, name: str) -> str:
    """Keeps only identifiers that something refers to, and numbers them after the figure's name."""
    used = dict.fromkeys(re.findall(r"(?:href=\"|url\()#([^\")]+)", text))
    renamed = {old: f"{name}-{number}" for number, old in enumerate(used)}
    text = re.sub(r' id="([^"]+)"', lambda match: f' id="{renamed[match[1]]}"' if match[1] in renamed else "", text)
    return re.sub(r"(href=\"|url\()#([^\")]+)", lambda match: f"{match[1]}#{renamed[match[2]]}", text)


def _subscript(match: re.Match[str]) -> str:
    """c_{k-2} with a true subscript; what follows goes back up to the line."""
    low = f'c<tspan dy="3" font-size="78%">{match[1].replace("-", "&#8722;")}</tspan>'
    return low + (f'<tspan dy="-3">{match[2]}</tspan>' if match[2] else "")
