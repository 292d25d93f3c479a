"""Runs search strategies against a table of true accuracies, thousands of repetitions at a time, and reports.

Writes config.json, result.json, table.md, report.html and checkpoints/ into the working directory. The same command
continues a run that was stopped or killed with the next strategy.
"""

import sys
from pathlib import Path
from typing import Any

EXAMPLE = "configs/tabular/toy.py"


def run(config: Any, workdir: str) -> None:
    """Runs or continues the searches of a config in `workdir`, and prints what it found."""
    from jaxnas.core.cache import enable_compilation_cache
    from jaxnas.tabular_experiment import run_tabular

    enable_compilation_cache()
    result = run_tabular(config, workdir)
    table = (Path(workdir) / "table.md").read_text(encoding="utf-8").strip()
    print("\n".join(["", table, "", *result["notes"], f"report     {Path(workdir) / 'report.html'}"]))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from jaxnas.core.cli import Flag, main

    workdir = Flag("the directory of the run, made if missing; one that holds a run is continued")
    groups = ("space", "images", "table", "cost", "strategies")
    sys.exit(main(run, description=__doc__ or "", flags={"workdir": workdir}, fields=groups, example=EXAMPLE))
