"""The style sheets of the reports: light and dark, wide and narrow, screen and paper."""

from jaxnas.report.palette import CURVES


def _curve_colors(theme: int) -> str:
    colors = "".join(f"--curve-{number}: {pair[theme]}; " for number, pair in enumerate(CURVES))
    return f":root {{ {colors}}}"


STYLE = (
    f"{_curve_colors(0)}\n@media (prefers-color-scheme: dark) {{ {_curve_colors(1)} }}\n"
    """
:root {
  color-scheme: light dark;
  --page: #f6f7f9; --panel: #ffffff; --ink: #14171c; --muted: #5d6673; --grid: #dfe3e8; --accent: #3454d1;
}
@media (prefers-color-scheme: dark) {
  :root { --page: #101216; --panel: #191c22; --ink: #eceef2; --muted: #a2abb8; --grid: #343a45; --accent: #8ea6ff; }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif;
}
main { max-width: 1080px; margin: 0 auto; padding: 40px 20px 64px; }
h1 { font-size: 30px; line-height: 1.2; margin: 2px 0 6px; letter-spacing: -0.01em; overflow-wrap: anywhere; }
h2 { font-size: 20px; margin: 44px 0 6px; }
h3 { font-size: 15px; margin: 0 0 8px; }
p { margin: 0 0 14px; max-width: 76ch; }
.quiet { color: var(--muted); }
.eyebrow { color: var(--muted); font-size: 13px; letter-spacing: 0.06em; text-transform: uppercase; }
.panel { background: var(--panel); border: 1px solid var(--grid); border-radius: 10px; padding: 16px 18px; }
.tiles, .plots { display: grid; gap: 16px; margin: 16px 0; }
.tiles { grid-template-columns: repeat(auto-fit, minmax(184px, 1fr)); }
.plots { grid-template-columns: repeat(auto-fit, minmax(min(440px, 100%), 1fr)); }
.panel > .plots, details > .stack { margin: 0; gap: 20px; }
.middle { align-items: center; }
.stack { display: grid; gap: 16px; margin: 16px 0; grid-template-columns: minmax(0, 1fr); }
.tile b { display: block; font-size: 24px; line-height: 1.35; font-weight: 650; white-space: nowrap; }
.tile small { font-size: 15px; font-weight: 500; }
.tile span { color: var(--muted); font-size: 13px; }
.tile .name { display: block; }
figure { margin: 0; min-width: 0; }
figcaption { color: var(--muted); font-size: 13px; margin-top: 6px; }
svg { display: block; max-width: 100%; height: auto; }
svg * { stroke-linejoin: round; }
.scroll { overflow-x: auto; }
.scroll svg { max-width: none; }
.cells { display: flex; flex-wrap: wrap; gap: 18px 24px; align-items: flex-start; }
.cells figure { max-width: 100%; }
.chain { display: flex; flex-wrap: wrap; gap: 8px 10px; margin: 0; padding: 0; overflow: hidden; }
.chain { list-style: none; font-size: 13px; }
.chain li { position: relative; padding: 3px 9px 4px; border-radius: 5px; line-height: 1.3; white-space: nowrap; }
.chain li + li::before {
  content: ""; position: absolute; left: -10px; top: 50%; width: 10px; border-top: 2px solid var(--muted);
}
.chain small { display: block; font-size: 11px; }
.warnings { border-left: 5px solid #d98a00; margin: 16px 0; }
.warnings ul { margin: 0; padding-left: 1.2em; }
.warnings li { max-width: 84ch; margin: 0 0 8px; }
.chips { display: flex; flex-wrap: wrap; gap: 6px 16px; font-size: 13px; margin: 0 0 14px; }
.chips i { display: inline-block; width: 12px; height: 12px; border-radius: 3px; margin-right: 6px; }
code { font: 12.5px/1.5 ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; overflow-wrap: anywhere; }
.genotype { display: block; color: var(--muted); margin-top: 12px; }
table { border-collapse: collapse; font-size: 13.5px; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 6px 14px 6px 0; border-bottom: 1px solid var(--grid); vertical-align: top; }
th { font-weight: 600; white-space: nowrap; }
thead th { color: var(--muted); font-weight: 500; }
.number { text-align: right; white-space: nowrap; }
.wide { width: 100%; }
.heat { border-collapse: separate; border-spacing: 2px; }
.heat th, .heat td { border: 0; padding: 3px 4px; border-radius: 4px; white-space: nowrap; }
.heat thead th { text-align: center; vertical-align: bottom; font-size: 12px; white-space: normal; line-height: 1.25; }
.heat tbody th { padding: 3px 8px 3px 0; font-weight: 400; color: var(--muted); }
.heat tbody .kept { color: var(--ink); font-weight: 650; }
.heat td { text-align: center; min-width: 47px; }
.heat td.kept { outline: 2px solid var(--ink); outline-offset: -1px; }
sub { font-size: 78%; line-height: 0; }
summary { cursor: pointer; font-weight: 600; }
td summary { font-weight: 400; color: var(--muted); }
td details code { display: block; min-width: 300px; }
details[open] > summary { margin-bottom: 14px; }
@media (max-width: 600px) {
  main { padding: 22px 12px 40px; }
  h1 { font-size: 25px; }
  .panel { padding: 13px 12px; }
  .tiles { grid-template-columns: repeat(auto-fit, minmax(160px, 1fr)); gap: 10px; }
  .tile b { font-size: 20px; }
}
@media print {
  :root { --page: #ffffff; --panel: #ffffff; --ink: #14171c; --muted: #5d6673; --grid: #dfe3e8; --accent: #3454d1; }
  main { max-width: none; padding: 0; }
  figure, .panel, tr { break-inside: avoid; }
  .cells svg, .scroll svg { max-width: 100%; }
  details::details-content { content-visibility: visible; height: auto; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""
    f"@media print {{ {_curve_colors(0)} }}\n"
)

LAB_STYLE = """
.findings { margin: 16px 0; }
.findings p { font-size: 16px; margin: 0; max-width: none; padding-right: max(0px, 100% - 84ch); }
.findings p + p { border-top: 1px solid var(--grid); padding-top: 10px; margin-top: 10px; }
.plots figure > div > svg { width: 100%; max-width: 680px; }
.plots g:hover > path { stroke-width: 4px !important; }
.stack figure td:first-child { min-width: 9em; }
.legend { display: flex; flex-wrap: wrap; gap: 3px 16px; font-size: 13px; line-height: 1.4; margin-top: 8px; }
.legend span { display: flex; align-items: center; gap: 6px; min-width: 0; overflow-wrap: anywhere; }
.legend svg { width: 34px; height: 12px; flex: none; }
@media (max-width: 600px) { .plots svg text { font-size: 13px !important; } }
"""

# Many columns of numbers: their names may wrap, methods' names may not.
COMPARISON_STYLE = (
    f"{LAB_STYLE}.wide th.number {{ white-space: normal; vertical-align: bottom; }}\n"
    ".wide th:first-child { vertical-align: bottom; }\n"
    ".wide td:first-child { white-space: nowrap; }\n"
    ".wide th:last-child, .wide td:last-child { padding-right: 0; }\n"
)
