"""The smallest run that has every part: two seeds, a search and four trainings from scratch, on 40 images of 4 × 4."""

import json
import os
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from jaxnas.train import storage

ROOT = Path(__file__).resolve().parents[1]
LAUNCHER = ROOT / "launch" / "search.py"
FIELDS = {
    "num_seeds": 2,
    "epochs": 3,
    "batch_size": 4,
    "space.nodes": 1,
    "space.layers": 1,
    "space.channels": 2,
    "space.operations": ("none", "skip_connect", "max_pool_3x3"),
    "data.name": "npz",
    "retrain.epochs": 2,
    "retrain.batch_size": 8,
    "retrain.layers": 1,
    "retrain.channels": 2,
    "retrain.learning_rate": 0.1,
    "checkpoint.keep": 3,
}
PHASES = {"search": 15, "found_seed_0": 10, "random_seed_0": 10, "found_seed_1": 10, "random_seed_1": 10}  # steps

# Becomes the rest of its command line, with no file allowed to grow beyond so many bytes: to it, a disk that is full.
LIMITED = (
    "import os, resource, sys; size = int(sys.argv[1]); "
    "resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)); os.execv(sys.argv[2], sys.argv[2:])"
)


def images(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Images whose brightness tells their class, one of three, and their labels."""
    labels = np.arange(count) % 3
    noise = np.random.default_rng(seed).integers(0, 60, (count, 4, 4, 1))
    return (noise + 90 * labels[:, None, None, None]).astype(np.uint8), labels


def write_data(path: Path, seed: int = 0, **replaced: np.ndarray) -> Path:
    """An npz file of 40 training and 12 test images, with some of its arrays replaced."""
    (x_train, y_train), (x_test, y_test) = images(40, seed), images(12, seed + 1)
    arrays: dict[str, Any] = {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test}
    np.savez(path, allow_pickle=False, **(arrays | replaced))
    return path


def arguments(workdir: Path, data: Path, method: str = "darts", **fields: Any) -> list[str]:
    """The command line of a run; `fields` are written with __ for the dot and replace those of FIELDS."""
    values = FIELDS | {"data.path": str(data)} | {name.replace("__", "."): value for name, value in fields.items()}
    config = ROOT / "configs" / "search" / f"{method}_digits.py"
    flags = [f"--config.{name}={value}" for name, value in values.items()]
    return [str(LAUNCHER), f"--config={config}", f"--workdir={workdir}", *flags]


def launch(command: list[str]) -> int:
    """Runs a launcher in this process, which spares the imports; returns its exit code."""
    before = sys.argv, list(sys.path)
    sys.argv = command
    try:
        runpy.run_path(command[0], run_name="__main__")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    finally:
        sys.argv, sys.path[:] = before
    raise AssertionError("the launcher did not end with an exit code")


class Process:
    """The launcher in a process of its own, with its output in a file beside the workdir; killed on leaving."""

    def __init__(self, command: list[str], largest_file: int | None = None) -> None:
        self.workdir = next(Path(each.partition("=")[2]) for each in command if each.startswith("--workdir="))
        self._log = self.workdir.with_suffix(".log")
        program = [sys.executable, *command]
        if largest_file is not None:
            program = [sys.executable, "-c", LIMITED, str(largest_file), *program]
        with self._log.open("w") as log:
            self._process = subprocess.Popen(program, stdout=subprocess.PIPE, stderr=log, text=True)

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *error: object) -> None:
        self._process.kill()  # does nothing to a process that has ended
        with self._process:
            pass

    @property
    def stderr(self) -> str:
        return self._log.read_text()

    def send(self, number: signal.Signals) -> None:
        os.kill(self._process.pid, number)

    def wait_for(self, condition: Any) -> None:
        """Waits until a condition holds; the process must not end before."""
        while not condition():
            assert self._process.poll() is None, f"it ended too early:\n{self.stderr}"
            time.sleep(0.0005)

    def end(self) -> tuple[int, str]:
        """Waits for its end; the exit code and what it printed."""
        output, _ = self._process.communicate()
        return self._process.returncode, output


def saved_steps(workdir: Path, phase: str) -> list[int]:
    """The steps of a phase that have a checkpoint."""
    folder = workdir / "checkpoints" / phase
    return sorted(int(path.name) for path in folder.glob("*") if path.name.isdecimal())


def unfinished_saves(workdir: Path, phase: str) -> set[str]:
    """Names of the folders that Orbax is writing, or was writing when it was killed."""
    return {path.name for path in (workdir / "checkpoints" / phase).glob("*orbax-checkpoint-tmp*")}


def outcome(workdir: Path, phases: Iterable[str] = tuple(PHASES)) -> dict[str, Any]:
    """All that two runs with the same results have in common, bit for bit: result, metrics, and final states."""
    result = json.loads((workdir / "result.json").read_text())
    del result["seconds"]
    states = {}
    for phase in phases:
        step = saved_steps(workdir, phase)[-1]
        content = json.loads(storage.read_meta(workdir / "checkpoints" / phase / str(step))["text"])
        states[phase] = (step, content["layout"], content["sha256"])
    return {"result": result, "metrics": (workdir / "metrics.jsonl").read_text(), "states": states}


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, but for the lock, which names the last process that held it."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}
