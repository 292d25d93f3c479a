"""Several methods on one space, one dataset and one budget: search with each, and set what they found side by side."""

import json
import re
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxnas.core.errors import UserError
from jaxnas.evaluate.tabular import column, true_values
from jaxnas.examination import examine, ranked_architectures
from jaxnas.experiment import search
from jaxnas.limits import Config, check_comparison_fields
from jaxnas.plan import Plan, Truth, plan, read_truth
from jaxnas.report.comparison import markdown_table, write_comparison
from jaxnas.train.workdir import Workdir, begin, prepare, read_json, write_json, write_text

BASELINE = "random"  # the method that the others have to beat
RANDOM_ROW = "random architecture"
# What methods are compared on, so that none can have its own.
COMMON = ("seed", "num_seeds", "space", "retrain", "data.name", "data.path")
FREE_FIELDS = ("base.checkpoint", "base.data.path", "table.path")  # no result depends on them
FILES = ("config.json", "result.json", "report.html", "table.md")
RANKED = "ranked-architectures"  # the folder of those trained for the ranking; no label has a hyphen


def compare(config: Config, workdir: str | Path) -> Mapping[str, Any]:
    """Runs a search with every method of `config` in a folder of its own in `workdir`, and returns the comparison.

    The searches run one after another; each continues where it was stopped, and a finished one is not run again. Then
    config.json, result.json, report.html and table.md are written. Where the config has a table, what every method
    found is looked up there (null where it is not listed). Where it asks for a ranking, the order that the shared
    weights give random architectures is compared with the table's, or with that of training each from scratch. The
    random architecture of a seed is the same for all methods, so that
    only one run trains it: the one labelled "random", or else the first.
    Raises UserError, before the first search starts, for whatever is wrong with the config, its table or any of its
    searches, and Stopped when the process was asked to stop.
    """
    runs = searches(config)
    made = {label: _planned(label, run) for label, run in runs.items()}
    examples = {label: _training_examples(of) for label, of in made.items()}
    _check_budget(config, examples)
    truth = read_truth(config, next(iter(made.values())).space)
    del made  # every plan holds the data
    with prepare(workdir, files=FILES, folders=(*runs, RANKED)) as folder:
        result = begin(folder, json.loads(config.to_json()), FREE_FIELDS)
        if result is not None:
            return result
        results: dict[str, Mapping[str, Any]] = {}
        for label, run in runs.items():
            results[label] = search(run, folder / label)
            jax.clear_caches()  # the programs of one search serve no other
        ranked = ranked_architectures(config, next(iter(runs.values())), folder / RANKED, truth)
        examined = {label: examine(config, run, folder / label, truth, ranked) for label, run in runs.items()}
        return _conclude(config, folder, results, examined, examples, truth)


def searches(config: Config) -> Mapping[str, Config]:
    """The config of every search of a comparison, by label; raises UserError for fields of the comparison's own.

    What is wrong with the search configs themselves, `plan` finds.
    """
    _check(config)
    return {label: _run_config(config, label) for label in config.methods}


def _check(config: Config) -> None:
    """Raises UserError for the first field of the comparison's own that is unknown, missing, wrong or needs another."""
    check_comparison_fields(config)
    if not hasattr(config.base.get("retrain"), "items"):
        raise UserError("the config lacks the field 'base.retrain', a group of fields.")
    if not config.methods:
        raise UserError("the comparison has no methods; give methods.LABEL.method for each.")
    if not config.table.path and config.base.retrain.get("epochs") == 0:
        raise UserError("retrain.epochs is 0 and there is no table, so nothing could be compared; give table.path.")


def _run_config(config: Config, label: str) -> Config:
    """The search config of a method: the base with the method and its overrides; raises UserError for wrong ones."""
    entry = config.methods[label]
    if not re.fullmatch(r"[A-Za-z0-9]\w*", label):
        raise UserError(f"the label {label!r} names a folder, so it has to be made of letters, digits and underscores.")
    if not hasattr(entry, "items") or not hasattr(entry.get("method"), "items"):
        raise UserError(f"methods.{label} lacks the field 'method', a group of fields.")
    overrides = {name: value for name, value in entry.items() if name != "method"}
    for name in _dotted(overrides):
        if any(name == one or name.startswith(f"{one}.") for one in COMMON):
            raise UserError(f"methods.{label} overrides {name}, which all methods have in common; set it in base.")
    run = config.base.copy_and_resolve_references()
    with run.unlocked():
        run.method = entry.method.copy_and_resolve_references()
        try:
            run.update(overrides)
        except TypeError as error:  # a value of another type
            raise UserError(f"methods.{label} does not fit base: {str(error).rstrip('.')}.") from error
        first = BASELINE if BASELINE in config.methods else next(iter(config.methods))
        if label != first and "random_baseline" in run.retrain:
            run.retrain.random_baseline = False
    return run


def _dotted(fields: Mapping[str, Any], prefix: str = "") -> list[str]:
    names = []
    for name, value in fields.items():
        names += _dotted(value, f"{prefix}{name}.") if hasattr(value, "items") else [prefix + name]
    return names


def _planned(label: str, run: Config) -> Plan:
    try:
        return plan(run)
    except UserError as error:
        raise UserError(f"methods.{label}: {error}") from error


def _training_examples(made: Plan) -> int:
    """How many examples the weights learn from in the whole search, repetitions counted."""
    return sum(stage.task.steps for stage in made.stages if stage.trains) * made.config["batch_size"]


def _check_budget(config: Config, examples: Mapping[str, int]) -> None:
    if config.equal_budget and len(set(examples.values())) > 1:
        each = ", ".join(f"{label} {count:,}" for label, count in examples.items())
        raise UserError(
            f"the methods train their weights on different numbers of examples: {each}; change their epochs or "
            "batch_size, or set equal_budget=False."
        )


def _conclude(
    config: Config,
    folder: Workdir,
    results: Mapping[str, Mapping[str, Any]],
    examined: Mapping[str, Mapping[str, Any]],
    examples: Mapping[str, int],
    truth: Truth | None,
) -> dict[str, Any]:
    """Writes and returns what the comparison shows; result.json last, because it tells that all is done."""
    any_result = next(iter(results.values()))
    rows = [_row(label, result["per_seed"], result, examined[label], truth) for label, result in results.items()]
    randoms = [entry["random"] for result in results.values() for entry in result["per_seed"] if "random" in entry]
    if randoms:
        rows.append(_row(RANDOM_ROW, randoms, {}, {}, truth))
    methods = [result["method"] for result in results.values()]
    if BASELINE in methods:
        rows[methods.index(BASELINE)]["is_baseline"] = True
    elif randoms:
        rows[-1]["is_baseline"] = True
    rows.sort(key=lambda row: -_mean_true(row))
    notes = _notes(config, results, examples, truth)
    result = {
        "question": config.question,
        **{name: any_result[name] for name in ("space", "data", "seeds", "versions", "device")},
        "training_examples": examples,
        "rows": rows,
        "notes": notes,
        "searches": {label: {**examined[label], "per_seed": one["per_seed"]} for label, one in results.items()},
    }
    write_text(folder / "table.md", markdown_table(rows))
    write_comparison(folder / "report.html", config.question, rows, notes)
    write_json(folder / "result.json", result)
    return read_json(folder / "result.json")


def _row(
    name: str,
    entries: Sequence[Mapping[str, Any]],
    result: Mapping[str, Any],
    examined: Mapping[str, Any],
    truth: Truth | None,
) -> dict[str, Any]:
    """A row of the report; entries: of every seed, as in the result of a search."""
    accuracies = [entry["retrained_accuracy"] for entry in entries if entry["retrained_accuracy"] is not None]
    rankings = [each["kendall"] for each in examined.get("ranking", ()) if each["kendall"] is not None]
    seconds = result.get("seconds", {})
    row = {
        "name": name,
        "architectures": [entry["architecture"] for entry in entries],
        "accuracies": accuracies,
        "true": [],
        "seconds": seconds.get("search"),
        "compile": seconds.get("compile"),
        "memory_bytes": result.get("memory_bytes"),
        "params": [entry["cost"]["params"] for entry in entries],
        "mult_adds": [entry["cost"]["mult_adds"] for entry in entries],
        "rank_correlation": statistics.fmean(rankings) if rankings else None,
        "rank_interval": examined.get("kendall_interval"),
        "ranked": examined.get("ranked"),
        "subnets": _subnets(entries),
        "is_baseline": False,
    }
    if truth is not None:
        known, parsed = column(*truth), [truth.table.space.parse(text) for text in row["architectures"]]
        stacked = {part: np.stack([one[part] for one in parsed]) for part in truth.table.space.shapes}
        row["true"] = true_values(truth.table, stacked, *truth[1:]).tolist()
        row["better_than"] = [float(np.mean(known < value)) for value in row["true"]]  # share of those listed
    return row


def _subnets(entries: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]] | None:
    """{network: [seeds][epochs]}, the accuracies of nested networks trained together; None for other searches."""
    known = [entry["subnets"] for entry in entries if "subnets" in entry]
    return {name: [one[name] for one in known] for name in known[0]} if known else None


def _mean_true(row: Mapping[str, Any]) -> float:
    """The mean over the seeds whose architecture the table lists, 0 without any."""
    known = [value for value in row["true"] if np.isfinite(value)]
    return statistics.fmean(known) if known else 0.0


def _notes(
    config: Config, results: Mapping[str, Mapping[str, Any]], examples: Mapping[str, int], truth: Truth | None
) -> list[str]:
    """What a reader has to know of the numbers, in sentences."""
    any_result = next(iter(results.values()))
    fewest, most = min(examples.values()), max(examples.values())
    each = f"{most:,}" if fewest == most else f"between {fewest:,} and {most:,}"
    seeds = len(any_result["seeds"])
    notes = [
        f"{config.base.data.name}, space {any_result['space']}, {seeds} {'seed' if seeds == 1 else 'seeds'}; every "
        f"search trained its weights on {each} examples, repetitions counted.",
        "Methods that run one path a step are faster for the same examples; the seconds say by how much.",
    ]
    if any(_subnets(result["per_seed"]) for result in results.values()):
        notes.append("An example counts once, however many subnets learn from it in a step.")
    if truth is not None:
        known, size = column(*truth), truth.table.space.size
        notes.append(
            f"True accuracies are the table's {truth.metric} of {len(known):,} of {size:,} architectures: "
            f"{known.max():.2%} at best, {known.mean():.2%} on average, {known.min():.2%} at worst."
        )
    if config.ranking.architectures:
        notes.append(
            f"Rank correlation is Kendall's τ between the {'true' if truth else 'test'} accuracies of "
            f"{config.ranking.architectures} random architectures and their validation accuracies with the shared "
            "weights, the mean over seeds; in brackets 95 % by bootstrap over the architectures."
        )
    return notes
