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


def start_save(manager: Any, step: int, leaves: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> bool:
    """Starts saving in the background, after an earlier save has ended; False when Orbax declines."""
    ocp = _orbax()
    state = ocp.args.StandardSave(_with_elements(leaves))
    return manager.save(step, args=ocp.args.Composite(state=state, meta=ocp.args.JsonSave(dict(meta))))


def read_meta(step_directory: Path) -> dict[str, Any]:
    """What was saved as `meta`. Raises whatever Orbax raises when files are missing or damaged."""
    return _read(step_directory, "meta", _orbax().args.JsonRestore())


def read_leaves(step_directory: Path, blank: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What was saved as `leaves`; `blank` has the same names, dtypes and shapes. Raises as `read_meta` does."""
    return dict(blank) | _read(step_directory, "state", _orbax().args.StandardRestore(_with_elements(blank)))


def _read(step_directory: Path, item: str, request: Any) -> dict[str, Any]:
    ocp = _orbax()
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as reader:
        return dict(reader.restore(step_directory, args=ocp.args.Composite(**{item: request}))[item])


def _with_elements(leaves: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Without the arrays of no elements, which Orbax refuses, and which need no storing."""
    return {name: leaf for name, leaf in leaves.items() if leaf.size}


def _orbax() -> ModuleType:
    import orbax.checkpoint as ocp

    # What matters in Orbax's log is raised as an error, too. (The logger exists only after this import.)
    logging.getLogger("absl").addFilter(_not_from_orbax)
    return ocp


def _not_from_orbax(record: logging.LogRecord) -> bool:
    return f"{os.sep}orbax{os.sep}checkpoint{os.sep}" not in record.pathname
