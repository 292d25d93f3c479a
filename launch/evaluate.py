"""Trains a stand-alone network as configs/evaluate says, tests it once and exports it; the genotype is a field.

--config.genotype=NAME takes a published genotype, one in the literature's notation, or the result.json of a search.
"""

import sys
from pathlib import Path
from typing import Any


def run(config: Any, workdir: str) -> None:
    """Runs the evaluation and prints what came out."""
    from jaxnas.core.cache import enable_compilation_cache

    enable_compilation_cache()
    from jaxnas.evaluation import evaluate

    print(_summary(evaluate(config, workdir), workdir))


def _summary(result: Any, workdir: str) -> str:
    found = result["found"]
    lines = [f"network    {result['network']}"]
    if found.get("genotype"):
        lines.append(f"genotype   {found['genotype']}")
    cost = found["cost"]
    binary = f", {cost['binary_params']:,} of them binary" if "binary_params" in cost else ""
    dense = f", {cost['dense_params']:,} before" if "dense_params" in cost else ""
    lines.append(f"size       {cost['params']:,} parameters{dense}{binary}, {cost['mult_adds']:,} mult-adds")
    for kind, label in (("found", "accuracy"), ("random", "random")):
        if kind in result:
            values = result[kind]["summary"]["accuracy"]
            spread = "" if values["std"] is None else f" ± {values['std']:.2%} over {len(result['seeds'])} seeds"
            size = "" if kind == "found" else f", an architecture of {result[kind]['cost']['params']:,} parameters"
            lines.append(f"{label:<10} {values['mean']:.2%}{spread} on the test split{size}")
    lines.append(f"time       {result['seconds']['run']:.0f} s, and {result['seconds']['compile']:.0f} s to compile")
    return "\n".join([*lines, *(f"{name:<10} {Path(workdir) / file}" for name, file in FILES)])


FILES = (("export", "export"), ("report", "report.html"))

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from jaxnas.core.cli import Flag, main

    workdir = Flag("the directory of the run, made if missing; one that holds a run is continued")
    groups = ("images", "network", "substitute", "teacher", "data", "recipe", "selection", "checkpoint")
    example = "configs/evaluate/wrn_digits.py"
    sys.exit(main(run, description=__doc__ or "", flags={"workdir": workdir}, fields=groups, example=example))
