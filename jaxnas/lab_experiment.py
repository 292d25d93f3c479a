"""A lab experiment from config to report: measure cell after cell, and say what they show."""

import inspect
import json
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxnas.core.errors import Stopped, UserError, choose, unknown
from jaxnas.core.threads import in_order
from jaxnas.evaluate.lab.experiments import EXPERIMENTS
from jaxnas.evaluate.lab.findings import Cell, Experiment, Findings
from jaxnas.experiment import versions
from jaxnas.limits import Config, check_lab_fields
from jaxnas.report.lab_page import LabRecord, write_lab_report
from jaxnas.train.checkpoint import Checkpoints
from jaxnas.train.logging import MetricLog, Progress
from jaxnas.train.parallel import check_platform
from jaxnas.train.signals import StopRequest
from jaxnas.train.workdir import ENTRIES, Workdir, begin, prepare, write_json

SIDE_BY_SIDE = 2  # cells; each uses all cores where it can, so that more would cost memory only


def run_lab(config: Config, workdir: str | Path) -> Mapping[str, Any]:
    """Runs the lab experiment that `config` describes in `workdir`, or continues it there, and returns its result.

    Writes config.json, metrics.jsonl, checkpoints/, result.json and report.html. What was measured is saved every so
    many seconds; a run that was stopped or killed goes on with the cell after the last one saved, and ends in the same
    result, as far as its measurements are not times. Raises UserError, before anything is written, for whatever is
    wrong with the config or the directory, and Stopped after saving when the process was asked to stop.
    """
    check_platform()
    experiment = make_experiment(config)
    try:
        values = json.loads(config.to_json())
    except TypeError as error:  # in when_small, where its settings are not used
        reason = str(error).partition(". ")[0]  # after it comes advice for programmers
        raise UserError(f"the config cannot be written as JSON: {reason}.") from error
    with prepare(workdir, **ENTRIES) as folder:
        result = begin(folder, values, ("checkpoint",))
        if result is not None:
            return result
        with MetricLog(folder.path) as log, StopRequest() as stop:
            measured, seconds = _measure_all(experiment, folder, values["checkpoint"], log, stop)
        findings = conclude(experiment, measured)
        about = {"versions": versions(), "device": jax.devices()[0].device_kind, "seconds": {"measure": seconds}}
        record = LabRecord(experiment.name, values, findings, seconds, about["versions"], config.question)
        write_lab_report(folder / "report.html", record)
        result = {
            "experiment": experiment.name,
            "seed": config.seed,
            "small": config.small,
            "settings": _settings(config),
            "sentences": findings.sentences,
            "numbers": findings.numbers,
            **about,
        }
        write_json(folder / "result.json", result)
        return result


def make_experiment(config: Config) -> Experiment:
    """The experiment of a config, with the settings for `small` where that is asked for; raises UserError."""
    check_lab_fields(config)
    factory = choose("experiment", config.experiment, EXPERIMENTS)
    settings = _settings(config)
    taken = {name for name in inspect.signature(factory).parameters if name != "seed"}
    for name in (*settings, *config.when_small):
        if name not in taken:
            raise unknown(f"setting of {config.experiment}", name, taken)
    missing = sorted(taken - set(settings))
    if missing:
        raise UserError(f"the experiment {config.experiment} needs the setting {missing[0]!r}.")
    return factory(seed=config.seed, **settings)


def conclude(experiment: Experiment, measured: Mapping[str, np.ndarray]) -> Findings:
    """What the experiment concludes from its measurements, infinite ones taken as NaN: neither can be compared."""
    return experiment.conclude({name: np.where(np.isfinite(each), each, np.nan) for name, each in measured.items()})


def _settings(config: Config) -> dict[str, Any]:
    chosen = dict(config.settings.items())
    return chosen | (dict(config.when_small.items()) if config.small else {})


def _measure_all(
    experiment: Experiment, folder: Workdir, cadence: Mapping[str, Any], log: MetricLog, stop: StopRequest
) -> tuple[dict[str, np.ndarray], float]:
    """Every quantity of every cell, [cells, *shape], from the newest checkpoint on; and the seconds spent."""
    total = len(experiment.cells)
    state = {
        "done": np.zeros((), np.int32),
        "measured": {name: np.full((total, *shape), np.nan) for name, shape in experiment.shapes.items()},
    }
    with Checkpoints(folder / "checkpoints", keep=cadence["keep"]) as checkpoints, jax.enable_x64(True):
        restored = checkpoints.restore(jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), state))
        for problem in restored.skipped if restored else ():
            print(f"warning: {problem}", file=sys.stderr)
        if restored:
            state = jax.tree.map(np.array, restored.state)
        done = int(state["done"])
        seconds = restored.metadata["seconds"] if restored else 0.0
        log.rewind(done)
        begun = saved_at = time.perf_counter()
        with Progress(experiment.name, epochs=1) as progress:
            progress.start(total, done)
            saved = done
            try:
                for values in _measurements(experiment, done):
                    for name, table in state["measured"].items():
                        table[done] = values[name]
                    done += 1
                    state["done"] = np.asarray(done, np.int32)
                    now = time.perf_counter()
                    log.write(done, _row(experiment.cells[done - 1], values))
                    progress.update(done, {})
                    if done == total or now - saved_at >= cadence["every_seconds"]:
                        checkpoints.save(done, state, {"seconds": seconds + now - begun})
                        saved, saved_at = done, now
                    if stop.requested and done < total:
                        raise Stopped(stop.requested, f"in {experiment.name} after {done} of {total} measurements")
            finally:  # also where a cell fails: what others measured is not lost
                seconds += time.perf_counter() - begun
                if done > saved:
                    checkpoints.save(done, state, {"seconds": seconds})
                checkpoints.wait()
    return state["measured"], seconds


def _measurements(experiment: Experiment, done: int) -> Iterator[Mapping[str, np.ndarray]]:
    """What the cells from number `done` on measure, in order."""

    def measure(cell: Cell) -> Mapping[str, np.ndarray]:
        with jax.enable_x64(False):  # holds for this thread only
            return experiment.measure(cell)

    return in_order(measure, experiment.cells[done:], 1 if experiment.timed else SIDE_BY_SIDE)


def _row(cell: Cell, values: Mapping[str, np.ndarray]) -> dict[str, float]:
    """The scalars that a cell measured, named after its labels."""
    labels = "/".join(f"{name}={value}" for name, value in cell.items())
    return {f"{labels}/{name}": float(value) for name, value in values.items() if np.ndim(value) == 0}
