"""Runs an experiment of the estimator lab and reports what it found.

Writes config.json, metrics.jsonl, checkpoints/, result.json and report.html into the working directory.
The same command continues a run that was stopped or killed. --config.small=True runs the two-minute variant.
"""

import re
import sys
from pathlib import Path
from typing import Any

EXAMPLE = "configs/lab/quick_check.py"


def run(config: Any, workdir: str) -> None:
    """Runs or continues the experiment of a config in `workdir`, and prints what it found."""
    from jaxnas.core.cache import enable_compilation_cache
    from jaxnas.core.errors import UserError
    from jaxnas.lab_experiment import run_lab

    for given in re.findall(r"--?config\.settings\.(\w+)", " ".join(sys.argv[1:])):
        if config.small and given in config.when_small:
            raise UserError(
                f"settings.{given} does not count with small=True; give --config.when_small.{given} instead."
            )
    enable_compilation_cache()
    result = run_lab(config, workdir)
    print("\n".join(["", *result["sentences"], f"report     {Path(workdir) / 'report.html'}"]))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from jaxnas.core.cli import Flag, main

    workdir = Flag("the directory of the run, made if missing; one that holds a run is continued")
    groups = ("experiment", "settings", "when_small", "checkpoint")
    sys.exit(main(run, description=__doc__ or "", flags={"workdir": workdir}, fields=groups, example=EXAMPLE))
