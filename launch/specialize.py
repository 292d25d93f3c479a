"""Answers requests such as "at most 3 ms on this machine" with networks cut out of a finished search, without training.

The search, in --config.search, has to end with a predictor: methods once_for_all, joint, sandwich and predicted.
"""

import sys
from pathlib import Path
from typing import Any

EXAMPLE = "configs/specialize/digits.py"


def run(config: Any, workdir: str) -> None:
    """Answers the requests of a config in `workdir`, or goes on there, and prints what came out."""
    from jaxnas.core.cache import enable_compilation_cache
    from jaxnas.specialization import specialize

    enable_compilation_cache()
    print(_summary(specialize(config, workdir), workdir))


def _summary(result: Any, workdir: str) -> str:
    quality = result["predictor"]
    tau = "unknown" if quality["kendall"] is None else f"{quality['kendall']:.2f}"
    held_out = f"on {len(quality['held_out']['measured'])} held out"
    lines = ["", f"predictor  error {quality['rmse']:.2%}, Kendall's tau {tau} {held_out}"]
    for label, one in result["requests"].items():
        cost, accuracy = one["cost"], one["accuracy"]
        measured = "" if cost["measured"] is None else f", measured {_cost(cost, 'measured')}"
        lines += [
            f"{label:<10} {_cost(cost, 'predicted')}{measured}, of at most {_cost(cost, 'limit')}",
            f"{'':<10} predicted {accuracy['predicted']:.2%}, {accuracy['valid']:.2%} on validation images, "
            f"{accuracy['test']:.2%} on the test split",
            f"{'':<10} {one['genotype']}",
            f"{'':<10} {Path(workdir) / 'networks' / label}",
        ]
    return "\n".join([*lines, f"{'report':<10} {Path(workdir) / 'report.html'}"])


def _cost(cost: Any, name: str) -> str:
    return f"{cost[name]:.3g} ms" if cost["unit"] == "ms" else f"{cost[name]:,.0f} {cost['unit']}"


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from jaxnas.core.cli import Flag, main

    workdir = Flag("the directory of the answers, made if missing; one that holds some is continued")
    groups = ("search", "requests", "evolution", "front")
    sys.exit(main(run, description=__doc__ or "", flags={"workdir": workdir}, fields=groups, example=EXAMPLE))
