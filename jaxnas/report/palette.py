"""Colours of the report: a fixed one for each operation, and those that follow the light or dark theme.

A family of operations has its hue, the kernel size its lightness. The colours stay apart from each other for readers
with protanopia and deuteranopia too, as simulated after Machado, Oliveira & Fernandes (2009).
"""

from collections.abc import Iterable, Mapping

OPERATIONS: Mapping[str, str] = {
    "none": "#73777b",
    "skip_connect": "#d47ed3",
    "max_pool_3x3": "#52a876",
    "avg_pool_3x3": "#f2de3c",
    "sep_conv_3x3": "#8ed3f6",
    "sep_conv_5x5": "#406ebe",
    "sep_conv_7x7": "#4222b2",
    "dil_conv_3x3": "#f4aa2d",
    "dil_conv_5x5": "#c15605",
    "conv_7x1_1x7": "#724429",
}
# What other names for the same thing share: options that compute nothing.
SAME: Mapping[str, str] = {"identity": "skip_connect", "zero": "none"}
# For all other options, in this order; apart from each other, and from the operations that chains and benchmarks share
# with cells (none, skip_connect and the 3x3 pools).
OTHERS = (
    *("#4e7cff", "#ce6a03", "#1d6101", "#fcaea8", "#8c0364"),
    *("#1ffbf0", "#2a4594", "#9fc4fd", "#a144c4", "#07ce13"),
)

# Colours of curves in light and in dark, as different in hue as the lightness that shows on both grounds allows.
CURVES: tuple[tuple[str, str], ...] = (
    ("#5539ce", "#2f64f1"),
    ("#ff8706", "#e4300b"),
    ("#0b5402", "#2c865a"),
    ("#01b8c3", "#1ff0c8"),
    ("#80087c", "#ac45ac"),
    ("#7f770c", "#ead900"),
    ("#077da9", "#81c8ff"),
    ("#924d5d", "#fa61ab"),
    ("#7876fb", "#a389ff"),
    ("#bc7f6d", "#e39957"),
)

# Figures are drawn with these stand-ins, which the page replaces by its style's variables (see svg.py).
INK, MUTED, GRID, PANEL, ACCENT = "#010203", "#020304", "#030405", "#040506", "#050607"
CURVE_INKS = tuple(f"#06{number:02x}08" for number in range(len(CURVES)))
VARIABLES: Mapping[str, str] = {
    **{INK: "--ink", MUTED: "--muted", GRID: "--grid", PANEL: "--panel", ACCENT: "--accent"},
    **{ink: f"--curve-{number}" for number, ink in enumerate(CURVE_INKS)},
}


def colors(options: Iterable[str]) -> dict[str, str]:
    """{option: #rrggbb}: an operation's own colour; the options without one get the colours of `OTHERS` in turn."""
    chosen: dict[str, str] = {}
    others = 0
    for option in options:
        if option in chosen:
            continue
        chosen[option] = OPERATIONS.get(SAME.get(option, option)) or OTHERS[others % len(OTHERS)]
        others += SAME.get(option, option) not in OPERATIONS
    return chosen


def channels(rgb: str) -> tuple[float, float, float]:
    """#rrggbb -> sRGB components between 0 and 1."""
    red, green, blue = (int(rgb[at : at + 2], 16) / 255 for at in (1, 3, 5))
    return red, green, blue


def contrast(first: str, second: str) -> float:
    """The contrast ratio of two colours, 1 to 21 (WCAG 2.2)."""
    high, low = sorted((_luminance(first), _luminance(second)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def text_on(background: str) -> str:
    """Dark or white text, whichever reads better on a colour."""
    dark, white = "#14171c", "#ffffff"
    return max(dark, white, key=lambda text: contrast(text, background))


def _luminance(rgb: str) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels(rgb)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
