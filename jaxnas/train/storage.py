"""The part of Orbax that checkpoints use, imported only when it is needed (it takes more than a second), and silent."""

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np


class LatestAndBest(NamedTuple):
    """Orbax's preservation policy: the newest `keep`, and the one with the highest score (of equals, the newest).

    Orbax's own policy for the best forgets all scores when the process ends. `scores` is looked at after every save.
    """

    keep: int
    scores: Mapping[int, float | None]

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        """One answer for each checkpoint, which come by increasing step."""
        steps = [checkpoint.step for checkpoint in checkpoints]
        ranked = [(score, step) for step in steps if (score := self.scores.get(step)) is not None]
        kept = {*steps[-self.keep :], *(step for _, step in sorted(ranked)[-1:])}
        return [step in kept for step in steps]


def open_manager(directory: Path, policy: LatestAndBest) -> Any:
    """Orbax's checkpoint manager; it lists the directory once, now."""
    ocp = _orbax()
    options = ocp.CheckpointManagerOptions(
        preservation_policy=policy,
        cleanup_tmp_directories=True,  # left behind by a process that was killed while it saved
        lightweight_initialize=True,  # reads nothing of the old steps: a damaged one must not stop a save
        # A directory that cannot be made is then an error of the save itself, with no thread left waiting for it.
        async_options=ocp.options.AsyncOptions(create_directories_asynchronously=False),
    )
    return ocp.CheckpointManager(directory, options=options)


def start_save(manager: Any, step: int, data: np.ndarray, meta: Mapping[str, Any]) -> bool:
    """Starts saving in the background, after an earlier save has ended; False when Orbax declines.

    data: uint8 [bytes], not to be changed until the save has ended.
    """
    ocp = _orbax()
    # Orbax refuses arrays without elements.
    state = ocp.args.StandardSave({"data": data if data.size else np.zeros(1, np.uint8)})
    return manager.save(step, args=ocp.args.Composite(state=state, meta=ocp.args.JsonSave(dict(meta))))


def read_meta(step_directory: Path) -> dict[str, Any]:
    """What was saved as `meta`. Raises whatever Orbax raises when files are missing or damaged."""
    return _read(step_directory, "meta", _orbax().args.JsonRestore())


def read_data(step_directory: Path, byte_count: int) -> np.ndarray:
    """What was saved as `data`, uint8 [byte_count]. Raises as `read_meta` does."""
    target = {"data": np.empty(max(1, byte_count), np.uint8)}
    return _read(step_directory, "state", _orbax().args.StandardRestore(target))["data"][:byte_count]


def _read(step_directory: Path, item: str, request: Any) -> dict[str, Any]:
    ocp = _orbax()
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as reader:
        return dict(reader.restore(step_directory, args=ocp.args.Composite(**{item: request}))[item])


def _orbax() -> ModuleType:
    import orbax.checkpoint as ocp

    # What matters in Orbax's log is raised as an error, too. (The logger exists only after this import.)
    logging.getLogger("absl").addFilter(_not_from_orbax)
    return ocp


def _not_from_orbax(record: logging.LogRecord) -> bool:
    return f"{os.sep}orbax{os.sep}checkpoint{os.sep}" not in record.pathname
