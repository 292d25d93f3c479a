"""What finished searches show in the light of true accuracies: those of a table, or of architectures trained here."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxnas.core.errors import UserError
from jaxnas.core.keys import named
from jaxnas.core.types import Architecture, Array
from jaxnas.evaluate.ranking import kendall_interval, random_architectures, rank_correlation, shared_weights
from jaxnas.evaluate.tabular import true_history, true_values
from jaxnas.evaluate.training_data import TrainingData
from jaxnas.experiment import Session, train_architecture
from jaxnas.limits import Config
from jaxnas.plan import Plan, PlannedStage, Truth, plan
from jaxnas.search.monitor import sound
from jaxnas.search.objectives import SearchState
from jaxnas.train.checkpoint import Checkpoints
from jaxnas.train.logging import MetricLog
from jaxnas.train.parallel import one_of
from jaxnas.train.signals import StopRequest
from jaxnas.train.task import RunState
from jaxnas.train.workdir import ENTRIES, prepare, read_json, write_json


class Ranked(NamedTuple):
    """Random architectures {part: [count, choices]} and their true accuracies [count], NaN where not known."""

    architectures: Architecture
    true: np.ndarray


def ranked_architectures(config: Config, run: Config, path: Path, truth: Truth | None) -> Ranked | None:
    """The architectures that every search of a comparison has to rank; None where the config asks for none.

    config: of the comparison. run: of one of its searches, whose data, space and recipe of training are those of all.
    Without a table they are trained from scratch in the folder `path`, one after another, and their test accuracies
    are the truth; what was trained before is not trained again. Raises Stopped when the process was asked to stop.
    """
    if not config.ranking.architectures:
        return None
    made = plan(run)
    key = named(jax.random.key(config.base.seed), "ranking")
    architectures = random_architectures(made.space, key, config.ranking.architectures)
    if truth is not None:
        return Ranked(architectures, true_values(truth.table, architectures, *truth[1:]))
    return Ranked(architectures, _trained(made, architectures, path))


def _trained(made: Plan, architectures: Architecture, path: Path) -> np.ndarray:
    """Test accuracies of architectures trained from scratch with the first seed, [count]."""
    file = path / "accuracies.json"
    with prepare(path, **ENTRIES) as folder:
        known = dict(read_json(file)) if file.exists() else {}
        accuracies = []
        with MetricLog(folder.path) as log, StopRequest() as stop:
            session = Session(made, folder, log, stop)
            for number in range(len(next(iter(architectures.values())))):
                one = one_of(architectures, number)
                name = made.space.canonical(one)
                if name not in known:
                    entry = train_architecture(session, one, made.seeds[0], f"ranked_{number}").entry
                    known[name] = entry["retrained_accuracy"]
                    write_json(folder / file.name, known)
                accuracies.append(known[name])
    return np.asarray(accuracies, float)


def examine(config: Config, run: Config, path: Path, truth: Truth | None, ranked: Ranked | None) -> Mapping[str, Any]:
    """What a finished search in the folder `path` shows, read from its checkpoints, and kept in comparison.json there.

    {"true_by_epoch": [seeds, epochs]} with a table; {"ranking": for every seed what `rank_correlation` gives,
    "kendall_interval": [low, high], "ranked": the accuracies themselves} where architectures are to be ranked and the
    method's weights are shared.
    """
    if truth is None and ranked is None:
        return {}
    file = path / "comparison.json"
    asked = {"table": truth and truth.metric, **config.ranking.to_dict(), "scale": truth and truth.scale}
    if file.exists():
        known = read_json(file)
        if known["asked"] == asked:
            return known
    alone = run.copy_and_resolve_references()
    alone.devices = 1  # one device judges, whichever number searched
    made = plan(alone)
    final, history = _finished(made, path)
    examined: dict[str, Any] = {"asked": asked}
    if truth is not None:
        examined["true_by_epoch"] = true_history(truth.table, history, *truth[1:])
    if ranked is not None and made.stages[-1].method.child is not None:
        examined |= _ranking(config, made, final, ranked)
    write_json(file, examined)
    return read_json(file)


def _finished(made: Plan, path: Path) -> tuple[Any, dict[str, np.ndarray]]:
    """The final learner of a finished search and the history of all its stages, both with a leading axis of seeds."""
    runs = [ended(made, stage, path) for stage in made.stages]
    epochs = [
        int(np.asarray(run.step).max()) // stage.task.steps_per_epoch
        for run, stage in zip(runs, made.stages, strict=True)
    ]
    names = [f"architecture/{part}" for part in made.space.shapes]
    return runs[-1].learner, {
        name: np.concatenate([run.history[name][:, :count] for run, count in zip(runs, epochs, strict=True)], axis=1)
        for name in names
    }


def ended(made: Plan, stage: PlannedStage, path: Path) -> RunState:
    """What a stage of the finished search in the folder `path` ended with, with a leading axis of seeds.

    Raises UserError where its checkpoints are gone.
    """
    template = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((len(made.seeds), *leaf.shape), leaf.dtype), stage.shapes)
    with Checkpoints(path / "checkpoints" / stage.task.name) as checkpoints:
        restored = checkpoints.restore(template)
    if restored is None:
        raise UserError(f"{str(path)!r} has no checkpoints of its search any more; put them back to go on.")
    return restored.state


def judge_of(made: Plan, images: int = 0) -> Callable[[SearchState, Architecture], Array]:
    """Judges as the search did, by the first so many images of the validation half, 0 for all; see `shared_weights`."""
    rows = np.asarray(made.halves[1])[: images or None]
    data = TrainingData(*jax.device_put((made.dataset.x_train[rows], made.dataset.y_train[rows])))
    calibrate = made.config["method"].get("calibrate", 0)  # as many images as the search itself judged by
    return shared_weights(
        made.stages[-1].method,
        data,
        batch_size=made.config["batch_size"],
        augmentation=made.augmentation,
        calibration=jax.device_put(made.dataset.x_train[np.asarray(made.halves[0])[:calibrate]]) if calibrate else None,
    )


def _ranking(config: Config, made: Plan, final: Any, ranked: Ranked) -> dict[str, Any]:
    """How the shared weights of every seed rank the architectures, judged on images of the validation half."""
    judge = judge_of(made, config.ranking.images)
    states = [sound(one_of(final, n)) for n in range(len(made.seeds))]
    judged = np.stack([judge(state, ranked.architectures) for state in states])
    return {
        "ranking": [rank_correlation(one, ranked.true) for one in judged],
        "kendall_interval": kendall_interval(judged, ranked.true),
        "ranked": {"judged": judged.tolist(), "true": ranked.true.tolist()},
    }
