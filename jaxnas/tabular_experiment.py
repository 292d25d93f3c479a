"""Several strategies against one table of true accuracies: search thousands of times with each, and report."""

import hashlib
import inspect
import json
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.core.errors import Stopped, UserError, choose, unknown
from jaxnas.core.keys import named
from jaxnas.core.types import Array, Gates, Space
from jaxnas.costs.penalties import reward_power
from jaxnas.costs.terms import COUNTED
from jaxnas.evaluate.synthetic import synthetic_table
from jaxnas.evaluate.tabular import Table, column, read_table
from jaxnas.evaluate.tabular_search import (
    Answers,
    Curves,
    answers,
    architecture_at,
    column_cost,
    index_of,
    judge,
    tabular_search,
)
from jaxnas.experiment import versions
from jaxnas.limits import Config, check_tabular_fields
from jaxnas.networks.families import FAMILIES
from jaxnas.networks.family import Family, Images
from jaxnas.report.tabular import markdown_tabular, write_tabular
from jaxnas.strategies import POLICIES, STRATEGIES
from jaxnas.strategies.policy import Policy
from jaxnas.strategies.strategy import Problem, Strategy
from jaxnas.train.parallel import check_platform
from jaxnas.train.signals import StopRequest
from jaxnas.train.workdir import Workdir, begin, prepare, read_json, write_json, write_text

SYNTHETIC = "synthetic"  # the space whose table is a formula
FREE_FIELDS = ("table.path",)  # its digest counts
FILES, FOLDERS = ("config.json", "result.json", "report.html", "table.md"), ("checkpoints",)
POINTS = 200  # rounds of a search that the result keeps
LOW, HIGH = 0.1, 0.9  # quantiles of the bands
NEARLY = 0.01  # how far below the best, as a share of the range of rewards, counts as almost there
SHOWN = 3  # derived architectures that the result names, the most frequent ones


class Setting(NamedTuple):
    """Everything that the searches of a config have in common, and the strategies by label."""

    table: Table
    answers: Answers
    problem: Problem
    strategies: Mapping[str, Strategy]


def run_tabular(config: Config, workdir: str | Path) -> Mapping[str, Any]:
    """Searches the table of `config` with each of its strategies, one after another, and returns what they reach.

    Writes config.json, result.json, table.md and report.html into `workdir`, and a file for each finished strategy into
    its folder checkpoints: a run that was stopped or killed goes on with the next one and ends in the same result, but
    for its times. Raises UserError, before anything is written, for whatever is wrong with the config, the table or the
    directory; during the searches for an architecture that the table does not list; and Stopped when asked to stop.
    """
    check_platform()
    made = make_setting(config)
    values = json.loads(config.to_json())
    path = config.table.path
    values["table"]["sha256"] = hashlib.sha256(Path(path).read_bytes()).hexdigest() if path else ""
    with prepare(workdir, files=FILES, folders=FOLDERS) as folder:
        result = begin(folder, values, FREE_FIELDS)
        if result is not None:
            return result
        (folder / "checkpoints").mkdir(exist_ok=True)
        with StopRequest("search") as stop:
            searches = _search_all(config, made, folder, stop)
        return _conclude(config, made, folder, searches)


def make_setting(config: Config) -> Setting:
    """The table, the problem and the strategies of a config; raises UserError for the first thing that is wrong."""
    check_tabular_fields(config)
    table, family = _table(config)
    known = config.table
    given = answers(
        table,
        known.metric,
        known.scale,
        trainings=tuple(known.trainings),
        noise=known.noise,
        missing=known.missing,
    )
    problem = Problem(table.space, _cost(config, table, family), config.cost.limit, _reward(config))
    judged = judge(problem, given)  # a limit that no architecture meets is found now
    costs = jnp.where(jnp.isfinite(judged.rewards), judged.costs, jnp.inf)
    problem = problem._replace(cheapest=architecture_at(table.space, jnp.argmin(costs)))
    if not config.strategies:
        raise UserError("the config has no strategies; give strategies.LABEL.name for each.")
    return Setting(table, given, problem, {label: _strategy(config, label, problem) for label in config.strategies})


def _table(config: Config) -> tuple[Table, Family | None]:
    """The table that is searched, and the family of its networks, None for a synthetic table."""
    settings = {name: value for name, value in config.space.items() if name != "name"}
    if config.space.name == SYNTHETIC:
        if config.table.path:
            raise UserError(f"table.path is {config.table.path!r}, which has no effect with the space {SYNTHETIC!r}.")
        _check_settings("space", SYNTHETIC, settings, synthetic_table)
        return synthetic_table(**settings), None
    builders: Mapping[str, Any] = {**FAMILIES, SYNTHETIC: synthetic_table}  # the latter for the hint
    build = choose("space", config.space.name, builders)
    _check_settings("space", config.space.name, settings, build)
    family = build(_images(config), **settings)
    if not config.table.path:
        raise UserError(f"the searches need a table of {config.space.name!r}, a CSV file; give table.path.")
    return read_table(config.table.path, family.space), family


def _cost(config: Config, table: Table, family: Family | None) -> Callable[[Gates], Array] | None:
    """What architectures cost, None for nothing; raises UserError for settings that do not fit."""
    cost = config.cost
    if cost.column and cost.name != "column":
        raise UserError(f"cost.column is {cost.column!r}, which has no effect with cost.name {cost.name!r}.")
    for name in ("limit", "target"):
        if cost.name == "none" and cost[name]:
            raise UserError(f"cost.{name} is {cost[name]:g}, which has no effect with cost.name 'none'.")
    if cost.hard and not cost.target:
        raise UserError("cost.hard is True, which has no effect without cost.target.")
    if family is None and cost.name in COUNTED:
        raise UserError(f"cost.name is {cost.name!r}, but a synthetic table has no networks; take 'column'.")
    if cost.name == "column":
        return column_cost(table, cost.column)
    counted = choose("cost", cost.name, {**COUNTED, "none": None, "column": None})
    return None if counted is None or family is None else counted[0](family, _images(config))


def _images(config: Config) -> Images:
    size = config.images.size
    return Images(size, size, config.images.channels, config.images.classes)


def _reward(config: Config) -> Callable[[Array, Array], Array]:
    """What is maximised: the accuracy, or with a target for the cost the accuracy times a power of their ratio."""
    cost = config.cost
    if not cost.target:
        return lambda accuracy, cost: accuracy
    return reward_power(cost.target, cost.exponent, cost.hard)


def _strategy(config: Config, label: str, problem: Problem) -> Strategy:
    """A strategy of the config, with its policy where it takes one; errors name its label."""
    entry = config.strategies[label]
    where = f"strategies.{label}"
    if not re.fullmatch(r"[A-Za-z0-9]\w*", label):
        raise UserError(f"the label {label!r} names a file, so it has to be made of letters, digits and underscores.")
    try:
        build = choose("strategy", entry.name, STRATEGIES)
        settings = {name: value for name, value in entry.items() if name != "name"}
        _check_settings(where, entry.name, settings, build)
        if "policy" in settings:
            settings["policy"] = _policy(f"{where}.policy", settings["policy"], problem)
        return build(problem, **settings)
    except UserError as error:
        raise error if str(error).startswith(where) else UserError(f"{where}: {error}") from error


def _policy(where: str, entry: Any, problem: Problem) -> Policy:
    if not hasattr(entry, "items") or "name" not in entry:
        raise UserError(f"{where} lacks the field 'name', a text.")
    build = choose("policy", entry.name, POLICIES)
    settings = {name: value for name, value in entry.items() if name != "name"}
    _check_settings(where, entry.name, settings, build)
    return build(problem.space, **settings, allowed=problem.allowed)


def _check_settings(where: str, name: str, given: Mapping[str, Any], build: Callable[..., Any]) -> None:
    """Raises UserError for a setting that `name`, built by `build`, does not take, and for one that it needs and lacks.

    Settings are keyword arguments and the policy; those with a default may be left out.
    """
    parameters = [one for one in inspect.signature(build).parameters.values() if one.name != "allowed"]
    taken = [one for one in parameters if one.kind is one.KEYWORD_ONLY or one.name == "policy"]
    for setting in given:
        if setting not in {one.name for one in taken}:
            raise unknown(f"setting of {name!r}, {where}.", setting, [one.name for one in taken])
    missing = [one.name for one in taken if one.default is one.empty and one.name not in given]
    if missing:
        raise UserError(f"{where} lacks {', '.join(missing)}, which {name!r} needs.")


def _search_all(config: Config, made: Setting, folder: Workdir, stop: StopRequest) -> dict[str, Mapping[str, Any]]:
    """What every strategy reached, {label: as `summary` has it}; finished ones are read."""
    searches: dict[str, Mapping[str, Any]] = {}
    for number, (label, strategy) in enumerate(made.strategies.items()):
        file = folder / "checkpoints" / f"{label}.json"
        if not file.exists():
            if stop.requested:
                raise Stopped(stop.requested, f"after {number} of {len(made.strategies)} strategies")
            try:
                curves = tabular_search(
                    strategy,
                    made.problem,
                    made.answers,
                    evaluations=config.evaluations,
                    key=named(jax.random.key(config.seed), label),
                    repetitions=config.repetitions,
                )
            except UserError as error:
                raise UserError(f"strategies.{label}: {error}") from error
            write_json(file, summary(made, curves))
            print(f"{label}: {curves.seconds:.1f} s, and {curves.compile:.1f} s to compile", file=sys.stderr)
        searches[label] = read_json(file)
    return searches


def summary(made: Setting, curves: Curves) -> dict[str, Any]:
    """What is kept of a search: its figures by round, over repetitions, and how every repetition ended.

    by_round: lists over at most POINTS rounds, spread evenly on a logarithmic axis: their number "round" from 1 on,
    "spent", quantiles of the true accuracy of the best so far ("accuracy", its "low" and "high"; a repetition without
    one counts as the worst), mean "regret" (over repetitions that have a best so far), share that has "found" the best
    of the table, mean "entropy", "reward" and, under "metrics", those of the strategy. ends: of every repetition
    "accuracy", "regret", "derived" and "nearly", the evaluations that it took to come within NEARLY of the range of
    rewards from the best, infinite where it did not. derived: the architectures that most repetitions would derive, and
    how many. range: of the true rewards.
    """
    rewards = np.asarray(judge(made.problem, made.answers).rewards)
    lowest, highest = float(np.nanmin(rewards)), float(np.nanmax(rewards))
    rounds = curves.spent.shape[1]
    kept = np.unique(np.geomspace(1, rounds, POINTS).round().astype(int)) - 1
    found = np.where(np.isnan(curves.accuracy), -np.inf, curves.accuracy)[:, kept]
    low, middle, high = np.quantile(found, (LOW, 0.5, HIGH), axis=0, method="inverted_cdf")
    near = np.nan_to_num(curves.regret, nan=np.inf) <= NEARLY * (highest - lowest)
    reached = np.where(near.any(axis=1), curves.spent[np.arange(len(near)), near.argmax(axis=1)], np.inf)
    return {
        "by_round": {
            "round": kept + 1,
            "spent": np.median(curves.spent[:, kept], axis=0),
            "accuracy": middle,
            "low": low,
            "high": high,
            "regret": _mean(curves.regret[:, kept]),
            "found": np.mean(curves.regret[:, kept] == 0, axis=0),
            "entropy": np.mean(curves.entropy[:, kept], axis=0),
            "reward": _mean(curves.reward[:, kept]),
            "metrics": {name: _mean(values[:, kept]) for name, values in curves.metrics.items()},
        },
        "ends": {
            "accuracy": curves.accuracy[:, -1],
            "regret": curves.regret[:, -1],
            "derived": curves.derived[:, -1],
            "nearly": reached,
        },
        "derived": _most_frequent(made.table.space, curves.final),
        "range": [lowest, highest],
        "proposals": curves.proposals,
        "compile": curves.compile,
        "seconds": curves.seconds,
    }


def _mean(values: np.ndarray) -> np.ndarray:
    """Means [rounds] over the repetitions [repetitions, rounds] that have a finite value; NaN where none has."""
    known = np.isfinite(values)
    counts = known.sum(axis=0)
    sums = np.where(known, values, 0.0).sum(axis=0, dtype=float)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def _most_frequent(space: Space, architectures: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    numbers = np.asarray(jax.vmap(lambda one: index_of(space, one))(dict(architectures)))
    values, counts = np.unique(numbers, return_counts=True)
    first = np.argsort(-counts, kind="stable")[:SHOWN]
    texts = [space.canonical(architecture_at(space, jnp.asarray(values[at]))) for at in first]
    return [{"architecture": one, "repetitions": int(counts[at])} for one, at in zip(texts, first, strict=True)]


def _conclude(
    config: Config, made: Setting, folder: Workdir, searches: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Writes and returns what the searches show; result.json last, because it tells that all is done."""
    notes = _notes(config, made)
    result = {
        "question": config.question,
        "space": made.table.space.name,
        "seed": config.seed,
        "repetitions": config.repetitions,
        "evaluations": config.evaluations,
        "notes": notes,
        "searches": searches,
        "versions": versions(),
        "device": jax.devices()[0].device_kind,
    }
    write_text(folder / "table.md", markdown_tabular(searches))
    write_tabular(folder / "report.html", config.question, searches, notes, json.loads(config.to_json()))
    write_json(folder / "result.json", result)
    return read_json(folder / "result.json")


def _notes(config: Config, made: Setting) -> list[str]:
    """What a reader has to know of the numbers, in sentences."""
    known, space = config.table, made.table.space
    values = column(made.table, known.metric, known.scale)
    notes = [
        f"{config.repetitions:,} repetitions of every search, {config.evaluations:,} whole evaluations each, in the "
        f"space {space.name}. An architecture that is asked for again is an evaluation, too.",
        f"True accuracies are the table's {known.metric} of {len(values):,} of {space.size:,} architectures: "
        f"{values.max():.2%} at best, {values.mean():.2%} on average, {values.min():.2%} at worst.",
    ]
    if known.trainings:
        notes.append(f"An evaluation answers with one of {', '.join(known.trainings)}, drawn at random.")
    if known.noise:
        notes.append(
            f"An evaluation of fidelity f answers with normal noise of standard deviation {known.noise:g} · √(1/f - 1) "
            "added: a simulation of short trainings."
        )
    if config.cost.limit:
        notes.append(f"What costs more than {config.cost.limit:,g} ({_cost_name(config)}) does not count.")
    if config.cost.target:
        notes.append(
            f"The reward is accuracy · (cost / {config.cost.target:,g})^{config.cost.exponent:g}"
            f"{' above that target' if config.cost.hard else ''}, the cost being {_cost_name(config)}; regret and what "
            "is found go by it."
        )
    return notes


def _cost_name(config: Config) -> str:
    return f"the table's {config.cost.column}" if config.cost.name == "column" else config.cost.name
