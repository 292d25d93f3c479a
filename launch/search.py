"""Searches an architecture, trains what was found beside a random one, and reports.

Writes config.json, metrics.jsonl, tensorboard/, checkpoints/, result.json and report.html into the working directory.
The same command continues a run that was stopped or killed.
"""

import sys
from pathlib import Path
from typing import Any


def run(config: Any, workdir: str) -> None:
    """Runs or continues the search of a config in `workdir`, and prints what it found."""
    from jaxnas.core.cache import enable_compilation_cache
    from jaxnas.experiment import search

    enable_compilation_cache()
    result = search(config, workdir)
    print(summary(result, workdir))


def summary(result: Any, workdir: str) -> str:
    """What a person wants to know of a finished run, as text."""
    several = len(result["seeds"]) > 1
    lines = [
        "",
        *([f"seed       {result['selected_seed']}, selected by its validation accuracy"] if several else []),
        f"genotype   {result['genotype']}",
        f"size       {result['cost']['params']:,} parameters, {result['cost']['mult_adds']:,} mult-adds",
        *([f"precision  {result['cost']['bit_operations']:,} BitOPs"] if "bit_operations" in result["cost"] else []),
    ]
    if result["retrained_accuracy"] is not None:
        accuracy = f"{result['retrained_accuracy']:.2%}"
        lines.append(f"accuracy   {accuracy} on the test split after training it from scratch")
    if result["retrained_accuracy"] is not None and result["random_baseline"]:
        lines.append(
            f"random     {result['random_baseline']['retrained_accuracy']:.2%} for a random architecture, same budget"
        )
    for name, words in (
        ("inherited_accuracy", "on the test split with the weights of the supernet"),
        ("true_accuracy", "is its true accuracy by the table"),
    ):
        if result.get(name) is not None:
            random = (result["random_baseline"] or {}).get(name)
            against = "" if random is None else f", {random:.2%} for a random architecture"
            lines.append(f"{name.partition('_')[0]:<10} {result[name]:.2%} {words}{against}")
    if several:
        for name, label in (("retrained_accuracy", "all found"), ("random_accuracy", "all random")):
            values = result["summary"][name]
            if values["mean"] is not None:
                lines.append(
                    f"{label:<10} {values['mean']:.2%} ± {values['std']:.2%} over {len(result['seeds'])} seeds"
                )
    return "\n".join([*lines, f"report     {Path(workdir) / 'report.html'}"])


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from jaxnas.core.cli import Flag, main

    workdir = Flag("the directory of the run, made if missing; one that holds a run is continued")
    groups = ("method", "space", "cost", "table", "monitor", "data", "retrain", "checkpoint")
    sys.exit(main(run, description=__doc__ or "", flags={"workdir": workdir}, fields=groups))
