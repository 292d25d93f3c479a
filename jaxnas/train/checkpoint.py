"""Checkpoints by Orbax: saved in the background, verified by checksum when read, never lost to a later failure.

Orbax writes and deletes the step directories. Three things that it leaves open are done here. Arrays whose bytes
changed on the disk load without complaint: their SHA-256 is stored beside them. A save of an older step is
dropped in silence: that is an error. Under a preservation policy the scores are forgotten by the next process: they
are part of the metadata.
"""

import contextlib
import hashlib
import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np

from jaxnas.core.errors import UserError
from jaxnas.core.types import PyTree
from jaxnas.train import snapshot, storage
from jaxnas.train.workdir import disk_errors, disk_problem


class Restored(NamedTuple):
    """A verified checkpoint, and one sentence for each newer one, which was damaged and moved aside."""

    step: int
    state: PyTree
    metadata: dict[str, Any]
    skipped: tuple[str, ...]


class Checkpoints:
    """The checkpoints in one directory, as a context manager; leaving it waits for the save in progress.

    keep: how many of the newest are kept, besides the one with the highest score.
    """

    def __init__(self, directory: str | os.PathLike[str], *, keep: int = 2) -> None:
        self._directory = Path(directory).absolute()
        self._keep = keep
        self._manager: Any = None  # made by the first save

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # An error of the block itself matters more than one of the save behind it.
        with contextlib.suppress(Exception) if error else contextlib.nullcontext():
            self.wait()
        self._close()

    def save(self, step: int, state: PyTree, metadata: Mapping[str, Any], score: float | None = None) -> None:
        """Starts saving, and returns as soon as the values are copied; the caller may then donate the state's buffers.

        state: a pytree of arrays, typed keys among them. metadata: whatever JSON can hold. score: higher is better;
        None or not finite is never the best.
        Waits for an earlier save still in progress. Raises UserError when the disk is full or cannot be written (the
        earlier checkpoints stay usable), and when a checkpoint of this or a later step is already there.
        """
        score = score if score is not None and math.isfinite(score) else None
        with self._guard():
            manager, scores = self._open()
            latest = manager.latest_step()
            if latest is not None and latest >= step:
                raise UserError(
                    f"the checkpoint of step {step} cannot be saved: {str(self._directory)!r} already holds step "
                    f"{latest}; continue from that one, or choose another --workdir."
                )
            data = snapshot.pack(state)
            content = {"metadata": dict(metadata), "score": score, "layout": snapshot.layout(state)}
            sealed = _seal(content | {"sha256": _digest(data)})
            scores[step] = score
            if not storage.start_save(manager, step, data, sealed):
                raise UserError(f"the checkpoint of step {step} was not saved: Orbax declined it and gave no reason.")

    def wait(self) -> None:
        """Waits for the save in progress; raises UserError when the disk is full or cannot be written."""
        if self._manager is not None:
            with self._guard():
                self._manager[0].wait_until_finished()

    def latest_step(self) -> int | None:
        """The newest step on the disk, verified or not, None when there is none; a save in progress does not count."""
        return max(self._steps(), default=None)

    def latest_metadata(self) -> dict[str, Any] | None:
        """The newest intact metadata, read without any state; None when there are none."""
        for step in reversed(self._steps()):
            with contextlib.suppress(_Damaged):
                return self._read_content(step)["metadata"]
        return None

    def restore(self, template: PyTree) -> Restored | None:
        """Reads the newest checkpoint that verifies, onto the default device; None when there is none at all.

        template: the state, or a pytree of the same structure of jax.ShapeDtypeStruct, as by jax.eval_shape.
        Damaged newer checkpoints are moved into the folder `damaged`, so that their steps can be saved again. Raises
        UserError when all are damaged (nothing is moved then), and when the newest intact one holds another state than
        `template` (the first leaf that differs is named).
        """
        self.wait()
        damaged: dict[int, str] = {}
        for step in reversed(self._steps()):
            try:
                content = self._read_content(step)
                self._check_layout(step, content["layout"], template)
                with self._reading(step):
                    data = storage.read_data(self._directory / str(step), snapshot.byte_count(template))
                if _digest(data) != content["sha256"]:
                    raise _Damaged("its arrays do not match their checksum")
            except _Damaged as problem:
                damaged[step] = str(problem)
                continue
            skipped = self._set_aside(damaged, step)
            return Restored(step, snapshot.unpack(template, data), content["metadata"], skipped)
        if damaged:
            reasons = "; ".join(f"step {step}: {reason}" for step, reason in damaged.items())
            raise UserError(
                f"no checkpoint in {str(self._directory)!r} can be used ({reasons}); "
                "put an intact copy there, or move that folder away to do this part of the run again."
            )
        return None

    def _steps(self) -> list[int]:
        if not self._directory.is_dir():
            return []
        return sorted(int(path.name) for path in self._directory.iterdir() if path.name.isdecimal())

    def _open(self) -> tuple[Any, dict[int, float | None]]:
        """Orbax's manager, and the scores that its policy looks at, of every step, also of one being saved."""
        if self._manager is None:
            self._directory.mkdir(parents=True, exist_ok=True)
            scores = {step: self._read_score(step) for step in self._steps()}
            self._manager = storage.open_manager(self._directory, storage.LatestAndBest(self._keep, scores)), scores
        return self._manager

    def _close(self) -> None:
        """Gives up Orbax's manager. One that failed raises its error again here, after it has been reported."""
        opened, self._manager = self._manager, None
        if opened is not None:
            with contextlib.suppress(Exception):
                opened[0].close()

    @contextlib.contextmanager
    def _guard(self) -> Iterator[None]:
        """Errors of the disk become UserErrors; after any error the next save starts with a new manager."""
        what = f"a checkpoint cannot be written in {str(self._directory)!r}"
        try:
            with disk_errors(what, "the earlier ones are intact, and the same command continues from there"):
                yield
        except Exception:
            self._close()
            raise

    def _read_content(self, step: int) -> dict[str, Any]:
        with self._reading(step):
            return _unseal(storage.read_meta(self._directory / str(step)))

    @contextlib.contextmanager
    def _reading(self, step: int) -> Iterator[None]:
        """Whatever goes wrong while reading is damage, except where the checkpoint is not to blame."""
        try:
            yield
        except (_Damaged, MemoryError):
            raise
        except Exception as error:
            if disk_problem(error) is not None:
                where = str(self._directory / str(step))
                raise UserError(f"the checkpoint {where!r} cannot be read: {disk_problem(error)}.") from error
            raise _Damaged(f"files are missing, cut short or changed: {type(error).__name__}") from error

    def _read_score(self, step: int) -> float | None:
        with contextlib.suppress(_Damaged):
            return self._read_content(step)["score"]
        return None

    def _check_layout(self, step: int, rows: list[list[Any]], template: PyTree) -> None:
        there = {name: f"{dtype}{tuple(shape)}" for name, dtype, shape in rows}
        here = {leaf.name: f"{leaf.dtype}{leaf.shape}" for leaf in snapshot.layout(template)}
        for name in [*there, *here]:
            if there.get(name) != here.get(name):
                raise UserError(
                    f"the checkpoint of step {step} in {str(self._directory)!r} does not fit: {name} is "
                    f"{there.get(name, 'missing')} there and {here.get(name, 'missing')} in this program; "
                    "use the settings and the version it was saved with, or choose another --workdir."
                )

    def _set_aside(self, damaged: Mapping[int, str], used: int) -> tuple[str, ...]:
        sentences = []
        for step, reason in damaged.items():
            target = self._directory / "damaged" / str(step)
            with self._guard():
                self._close()  # so that the next save lists the directory again
                shutil.rmtree(target, ignore_errors=True)
                target.parent.mkdir(exist_ok=True)
                (self._directory / str(step)).rename(target)
            sentences.append(
                f"the checkpoint of step {step} is damaged ({reason}) and was moved to {str(target)!r}; "
                f"step {used} is used instead."
            )
        return tuple(sentences)


class _Damaged(Exception):
    """What is wrong with a checkpoint, in half a sentence."""


def _digest(data: np.ndarray) -> str:
    return hashlib.sha256(data.data).hexdigest()


def _seal(content: Mapping[str, Any]) -> dict[str, str]:
    text = json.dumps(content)
    return {"text": text, "sha256": hashlib.sha256(text.encode()).hexdigest()}


def _unseal(sealed: Mapping[str, str]) -> dict[str, Any]:
    if hashlib.sha256(sealed["text"].encode()).hexdigest() != sealed["sha256"]:
        raise _Damaged("its metadata do not match their checksum")
    return json.loads(sealed["text"])
