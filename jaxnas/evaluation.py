"""A stand-alone network from config to report: choose, train, test once, write down, export."""

import statistics as stats
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import linen as nn

from jaxnas.evaluate.description import describe_network, without_auxiliary
from jaxnas.evaluate.export import check_export_folder, export_network
from jaxnas.evaluation_plan import EXPORT, FOUND, EvaluationPlan, evaluation_plan
from jaxnas.experiment import Session, versions
from jaxnas.limits import Config
from jaxnas.report.evaluation import EvaluationRecord, write_evaluation
from jaxnas.report.sections import summary_of
from jaxnas.train.logging import MetricLog
from jaxnas.train.loop import Outcome
from jaxnas.train.parallel import one_of
from jaxnas.train.signals import StopRequest
from jaxnas.train.task import rehearse
from jaxnas.train.workdir import ENTRIES, begin, prepare, write_json

# Fields that may differ when a run is continued, because no result depends on them.
FREE_FIELDS = ("checkpoint", "data.path", "data.workers", "teacher.workdir")
LAST = 10  # epochs whose means the result tells, as tables of noisy trainings do
MANY = 100  # classes from which on the five likeliest are looked at, too


class Evaluated(NamedTuple):
    """A network chosen, trained and tested: what result.json says of it, curves [seeds, epochs], and seconds."""

    entry: Mapping[str, Any]
    history: Mapping[str, np.ndarray]
    seconds: Mapping[str, float]


def evaluate(config: Config, workdir: str | Path) -> Mapping[str, Any]:
    """Trains the network that `config` describes in `workdir`, or continues there, and returns the result.

    Writes config.json, metrics.jsonl, tensorboard/, checkpoints/, export/ (the first seed's network as a portable
    program, see `evaluate.export`), result.json and report.html. A run that was stopped or killed at any moment and is
    started again ends in the same result, bit for bit. A finished run is not run again.
    Raises UserError, before anything is written, for whatever is wrong with the config, the data or the directory, and
    Stopped after saving when the process was asked to stop.
    """
    made = evaluation_plan(config)
    folders = [*ENTRIES["folders"], EXPORT]
    with prepare(workdir, files=ENTRIES["files"], folders=folders) as folder:
        check_export_folder(folder / EXPORT)
        result = begin(folder, made.config, FREE_FIELDS)
        if result is not None and (folder / EXPORT).exists():  # a lost export is written again
            return result
        with MetricLog(folder.path) as log, StopRequest() as stop:
            return _run(Session(made, folder, log, stop))


def _run(session: Session[EvaluationPlan]) -> Mapping[str, Any]:
    made = session.made
    arms = {kind: _evaluated(session, kind, texts) for kind, texts in made.candidates.items()}
    seconds = {name: sum(one.seconds[name] for one in arms.values()) for name in ("compile", "run")}
    result = {
        "network": made.config["network"]["name"],
        "data": made.data.source.name,
        "seeds": list(made.seeds),
        **{kind: one.entry for kind, one in arms.items()},
        "versions": versions(),
        "device": f"{made.devices.number} × {jax.devices()[0].device_kind}",
        "seconds": seconds,
    }
    record = EvaluationRecord(made.config, result, {kind: one.history for kind, one in arms.items()})
    write_evaluation(session.folder / "report.html", record)
    write_json(session.folder / "result.json", result)
    return result


def _evaluated(session: Session[EvaluationPlan], kind: str, texts: tuple[str, ...]) -> Evaluated:
    """Chooses among architectures, trains the choice with every seed and looks at the test split once."""
    made = session.made
    chosen, selection = _chosen(session, kind, texts)
    network, task, data = made.training(chosen, kind)
    outcome = session.train(task, rehearse(task, data), data, made.seeds)
    tested = [_tested(made, network, _of_seed(outcome, number)) for number in range(len(made.seeds))]
    history = {name: np.asarray(values) for name, values in outcome.run.history.items()}
    description = describe_network(network, made.images.shape)
    entry: dict[str, Any] = {
        **({"genotype": chosen} if chosen else {}),
        "cost": description,
        "test": {name: [one[name] for one in tested] for name in tested[0]},
        "summary": {name: summary_of([one[name] for one in tested]) for name in tested[0]},
        "last_epochs": {name: summary_of(values[:, -LAST:].mean(axis=1).tolist()) for name, values in history.items()},
        "memory_bytes": outcome.memory,  # of the training program, on each device
        "seconds_per_epoch": outcome.seconds["run"] / made.recipe.epochs,
    }
    if selection:
        entry["selection"] = selection
    if kind == FOUND:
        _export(session, network, _of_seed(outcome, 0), {"genotype": chosen, **description})
    return Evaluated(entry, history, outcome.seconds)


def _chosen(session: Session[EvaluationPlan], kind: str, texts: tuple[str, ...]) -> tuple[str, list[Mapping[str, Any]]]:
    """The architecture whose short trainings validate best, and what they all showed; a single one is not trained."""
    made = session.made
    if len(texts) == 1 or not made.config["selection"]["epochs"]:
        return texts[0], []
    seeds = tuple(range(made.seeds[0], made.seeds[0] + made.config["selection"]["seeds"]))
    shown = []
    for number, text in enumerate(texts):
        _, task, data = made.training(text, f"{kind}_candidate_{number}", select=True)
        outcome = session.train(task, rehearse(task, data), data, seeds)
        accuracies = np.asarray(outcome.run.history["valid_accuracy"])[:, -1].tolist()
        shown.append({"genotype": text, "valid_accuracy": accuracies, "mean": stats.fmean(accuracies)})
        print(f"{task.name}: {shown[-1]['mean']:.2%} on held-out images", file=sys.stderr)
    return max(shown, key=lambda one: one["mean"])["genotype"], shown


def _of_seed(outcome: Outcome, number: int) -> Any:
    """The variables that the network of one seed is judged by."""
    return one_of(outcome.run.learner.judged, number)


def _tested(made: EvaluationPlan, network: nn.Module, variables: Any) -> dict[str, float]:
    """Accuracies on the test split."""
    tops = {"accuracy": 1} | ({"top_5_accuracy": 5} if made.images.classes >= MANY else {})
    return {name: made.data.accuracy(network, variables, top) for name, top in tops.items()}


def _export(
    session: Session[EvaluationPlan], network: nn.Module, variables: Any, description: Mapping[str, Any]
) -> None:
    """Writes the network, without its auxiliary head, as a portable program."""
    made = session.made
    kept = {name: {k: v for k, v in tree.items() if k != "auxiliary_head"} for name, tree in variables.items()}
    export_network(
        session.folder / EXPORT,
        without_auxiliary(network),
        kept,
        image_shape=made.images.shape,
        mean=made.data.augmentation.mean,
        std=made.data.augmentation.std,
        class_names=made.data.source.class_names,
        border=made.data.border,
        description={"network": made.config["network"], "data": made.data.source.name, **description},
    )
