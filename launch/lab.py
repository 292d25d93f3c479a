"""Runs an experiment of the estimator lab and reports what it found.

Writes config.json, metrics.jsonl, checkpoints/, result.json and report.html into the working directory.
The same command continues a run that was stopped or killed. --config.small=True runs the two-minute variant.
"""

import re
import signal
import sys
from pathlib import Path
from typing import Any

EXAMPLE = "configs/lab/quick_check.py"


def run(config: Any, workdir: str) -> int:
    """Runs or continues the experiment of a config in `workdir`; returns the exit code."""
    from jaxnas.core.cache import enable_compilation_cache
    from jaxnas.core.errors import UserError
    from jaxnas.lab_experiment import run_lab
    from jaxnas.train.loop import Stopped

    for given in re.findall(r"--?config\.settings\.(\w+)", " ".join(sys.argv[1:])):
        if config.small and given in config.when_small:
            raise UserError(
                f"settings.{given} does not count with small=True; give --config.when_small.{given} instead."
            )
    enable_compilation_cache()
    try:
        result = run_lab(config, workdir)
    except Stopped as stopped:
        print(f"{stopped}; the same command continues it.", file=sys.stderr)
        return 128 + signal.Signals[stopped.signal]
    print("\n".join(["", *result["sentences"], f"report     {Path(workdir) / 'report.html'}"]))
    return 0


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from jaxnas.core.cli import Flag, main

    workdir = Flag("the directory of the run, made if missing; one that holds a run is continued")
    groups = ("experiment", "settings", "when_small", "checkpoint")
    sys.exit(main(run, description=__doc__ or "", flags={"workdir": workdir}, fields=groups, example=EXAMPLE))
