"""Axes of the lab's figures: where their ticks lie and what they say."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axis import Axis
from matplotlib.ticker import FixedFormatter, FixedLocator, LogLocator, MaxNLocator, NullLocator

_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_MINUS = "\N{MINUS SIGN}"


def tick_texts(ticks: Sequence[float] | np.ndarray, *, log: bool = False) -> list[str]:
    """The numbers of one axis: as many decimals as they need, on a logarithmic axis each its own.

    Powers of ten are written where a number is below 0.001 or has seven digits.
    """
    sizes = [abs(tick) for tick in ticks if tick]
    gaps = np.diff(sorted(ticks))
    gap = float(min(gaps[gaps > 0], default=min(sizes, default=1.0)))
    if sizes and (min(sizes) < 0.999e-3 or max(sizes) >= 1e6):
        return [_power(tick, gap) for tick in ticks]
    needed = [_decimals(tick, gap) for tick in ticks]
    decimals = needed if log else [max(needed, default=0) if tick else 0 for tick in ticks]
    return [f"{tick:,.{count}f}".replace("-", _MINUS) for tick, count in zip(ticks, decimals, strict=True)]


def set_ticks(axis: Axis, shared: np.ndarray, *, log: bool) -> list[str]:
    """Sets the ticks of an axis whose limits and scale are final; returns their texts.

    `shared` are the places at which every line has a value: where they are few, short and far enough apart to be
    written, the ticks are these. Otherwise they are round numbers.
    """
    low, high = sorted(axis.get_view_interval())
    span = math.log10(high / low) if log else high - low
    ticks, texts = [float(place) for place in shared], tick_texts(shared, log=log)
    places = np.log10(ticks) if log else np.array(ticks)
    if not 3 <= len(ticks) <= 10 or max(map(len, texts)) > 5 or np.diff(places).min() < span / 14:
        locator = _log_locator(span) if log else MaxNLocator(6, steps=[1, 2, 5, 10])
        ticks = [float(tick) for tick in locator.tick_values(low, high) if low <= tick <= high]
        texts = tick_texts(ticks, log=log)
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_major_formatter(FixedFormatter(texts))
    axis.set_minor_locator(NullLocator())
    return texts


def _log_locator(decades: float) -> LogLocator | MaxNLocator:
    if decades < 0.8:
        return MaxNLocator(5, steps=[1, 2, 5, 10])
    return LogLocator(subs=(1, 2, 5), numticks=12) if decades < 2 else LogLocator(numticks=7)


def _decimals(value: float, gap: float) -> int:
    """How many decimals show a tick so well that it is not mistaken for a place nearer to its neighbour."""
    nearness = 0.01 * min(gap, abs(value) or gap)
    return next((count for count in range(17) if abs(value - round(value, count)) <= nearness), 17)


def _power(value: float, gap: float) -> str:
    """A number as mantissa and power of ten: 2×10⁻⁵, 10⁶, 1."""
    if not value:
        return "0"
    exponent = math.floor(math.log10(abs(value)) + 1e-9)
    mantissa = value / 10**exponent
    factor = f"{mantissa:.{_decimals(mantissa, gap / 10**exponent)}f}".replace("-", _MINUS)
    if not exponent:
        return factor
    power = f"10{str(exponent).translate(_SUPERSCRIPTS)}"
    return {"1": power, f"{_MINUS}1": _MINUS + power}.get(factor, f"{factor}\N{MULTIPLICATION SIGN}{power}")
