"""Compares search methods on one space, one dataset and one budget, and reports.

Writes config.json, result.json, table.md and report.html into the working directory, and every search into a folder of
its own there. The same command continues a comparison that was stopped or killed.
"""

import sys
from pathlib import Path
from typing import Any

EXAMPLE = "configs/compare/digits.py"


def run(config: Any, workdir: str) -> None:
    """Runs or continues the comparison of a config in `workdir`, and prints what it found."""
    from jaxnas.comparison import compare
    from jaxnas.core.cache import enable_compilation_cache

    enable_compilation_cache()
    result = compare(config, workdir)
    table = (Path(workdir) / "table.md").read_text(encoding="utf-8").strip()
    print("\n".join(["", table, "", *result["notes"], f"report     {Path(workdir) / 'report.html'}"]))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from jaxnas.core.cli import Flag, main

    workdir = Flag("the directory of the comparison, made if missing; one that holds a comparison is continued")
    groups = ("base", "methods", "table", "ranking")
    sys.exit(main(run, description=__doc__ or "", flags={"workdir": workdir}, fields=groups, example=EXAMPLE))
