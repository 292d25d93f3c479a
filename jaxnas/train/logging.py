"""What a run tells while it runs: metrics in two files for other programs, and progress for the person waiting."""

import importlib
import json
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as RichProgress

from jaxnas.train.workdir import disk_errors, plain, write_text

# Without a terminal, where a line cannot be redrawn, a new line is printed no more often than this.
SECONDS_PER_LINE = 5.0


class MetricLog:
    """Appends scalars to `metrics.jsonl` (one object a line, with its step) and to `tensorboard/` in a directory."""

    def __init__(self, workdir: str | os.PathLike[str]) -> None:
        self._directory = Path(workdir)
        self._lines = self._directory / "metrics.jsonl"
        self._events: _EventFile | None = None
        self._purge_step: int | None = None

    def __enter__(self) -> "MetricLog":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close_events()

    def write(self, step: int, row: Mapping[str, float]) -> None:
        """Appends one line {"step": step, **row}, at once on the disk; numbers that are not finite become null.

        Raises UserError when the disk is full or cannot be written.
        """
        line = json.dumps(plain({"step": step} | dict(row)), allow_nan=False)
        with self._disk_errors():
            with self._lines.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
            if self._events is None:
                self._events = _EventFile(self._directory / "tensorboard", self._purge_step)
            self._events.write(step, row)

    def rewind(self, step: int) -> None:
        """Forgets what was logged after `step`, and a last line that was cut short, before a run goes on from there."""
        self._close_events()
        self._purge_step = step + 1
        if not self._lines.exists():
            return
        with self._disk_errors():
            lines = self._lines.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
        kept = [line for line in lines if _logged_until(line, step)]
        if kept != lines:
            write_text(self._lines, "".join(kept))

    def _close_events(self) -> None:
        events, self._events = self._events, None
        if events is not None:
            with self._disk_errors():
                events.close()

    def _disk_errors(self) -> Any:
        return disk_errors(
            f"metrics cannot be logged in {str(self._directory)!r}",
            "the checkpoints are intact, and the same command continues from there",
        )


class _EventFile:
    """One event file of TensorBoard, written in the caller's thread, so that a full disk is the caller's error.

    (tensorboardX's SummaryWriter writes in a thread; when that ends with an error, its queue fills and never empties.)
    """

    def __init__(self, directory: Path, purge_step: int | None) -> None:
        from tensorboardX.event_file_writer import EventsWriter

        # Imported by name, because generated modules have no static contents.
        self._event_pb2: Any = importlib.import_module("tensorboardX.proto.event_pb2")
        self._summary_pb2: Any = importlib.import_module("tensorboardX.proto.summary_pb2")
        directory.mkdir(exist_ok=True)
        # The name holds the second only; two processes, or two rewinds, within one must not share a file.
        self._writer = EventsWriter(str(directory / "events"), filename_suffix=f".{os.getpid()}.{time.time_ns()}")
        if purge_step is not None:
            # TensorBoard hides what earlier files hold from this step on.
            start = self._event_pb2.SessionLog(status=self._event_pb2.SessionLog.START)
            self._writer.write_event(self._event_pb2.Event(step=purge_step, session_log=start))

    def write(self, step: int, row: Mapping[str, float]) -> None:
        summary = self._summary_pb2.Summary()
        for name, value in row.items():
            summary.value.add(tag=name, simple_value=float(value))
        self._writer.write_event(self._event_pb2.Event(wall_time=time.time(), step=step, summary=summary))
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


def _logged_until(line: str, step: int) -> bool:
    try:
        return line.endswith("\n") and json.loads(line)["step"] <= step
    except (json.JSONDecodeError, KeyError, TypeError):
        return False


class Progress:
    """Steps done, time left and the newest losses and accuracies of one task, as a context manager.

    On a terminal a bar is redrawn; elsewhere a line is printed every few seconds and at the end. `console` is where to
    write, standard error by default. `seconds_per_line` is the least time between two printed lines.
    """

    def __init__(
        self,
        name: str,
        *,
        epochs: int,
        console: Console | None = None,
        seconds_per_line: float = SECONDS_PER_LINE,
    ) -> None:
        self._name = name
        self._epochs = epochs
        self._console = console or Console(stderr=True)
        self._seconds_per_line = seconds_per_line
        self._bar: RichProgress | None = None
        self._total = 1
        self._metrics: dict[str, float] = {}
        self._pace = Pace(0)
        self._printed_at = 0.0

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def start(self, total: int, initial_step: int = 0) -> None:
        """Begins at `initial_step` of `total` steps; steps done before do not count for the time left."""
        self._total, self._pace = total, Pace(initial_step)
        self._printed_at = time.monotonic()
        if self._console.is_terminal:
            columns = (TextColumn("{task.fields[head]}"), BarColumn(), TextColumn("{task.fields[tail]}"))
            self._bar = RichProgress(*columns, console=self._console)
            head, tail = self._texts(initial_step)
            self._bar.add_task(self._name, total=total, completed=initial_step, head=head, tail=tail)
            self._bar.start()

    def update(self, step: int, metrics: Mapping[str, float]) -> None:
        """Shows that `step` steps are done; metrics that are not given keep their last values."""
        now = time.monotonic()
        self._pace.update(step, now)
        self._metrics |= {name: value for name, value in metrics.items() if _is_shown(name)}
        head, tail = self._texts(step)
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=step, head=head, tail=tail)
        elif step == self._total or now - self._printed_at >= self._seconds_per_line:
            self._printed_at = now
            self._console.print(f"{head}  {tail}", soft_wrap=True, highlight=False, markup=False)

    def _texts(self, step: int) -> tuple[str, str]:
        epoch = step * self._epochs // self._total
        metrics = [f"{name} {value:.4g}" for name, value in self._metrics.items()]
        left = self._pace.seconds_left(step, self._total)
        time_left = [] if left is None else [f"{format_seconds(left)} left"]
        head = f"{self._name} {epoch}/{self._epochs} epochs  step {step}/{self._total}"
        return head, "  ".join([*metrics, *time_left])


class Pace:
    """Estimates the time left from the steps done in this process after its first update, which includes compiling."""

    def __init__(self, initial_step: int) -> None:
        self._first: tuple[int, float] | None = None
        self._last: tuple[int, float] = (initial_step, 0.0)

    def update(self, step: int, now: float) -> None:
        """Notes that `step` steps are done at the time `now`, in seconds of any clock."""
        self._first = self._first or (step, now)
        self._last = (step, now)

    def seconds_left(self, step: int, total: int) -> float | None:
        """Seconds until step `total`; None as long as nothing but the first update is known."""
        if self._first is None or self._last[0] == self._first[0]:
            return 0.0 if step >= total else None
        seconds_per_step = (self._last[1] - self._first[1]) / (self._last[0] - self._first[0])
        return max(0.0, (total - step) * seconds_per_step)


def format_seconds(seconds: float) -> str:
    """A duration as "59s", "1m02s" or "3h05m"."""
    whole = math.ceil(seconds)
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes:02d}m"
    return f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"


def _is_shown(name: str) -> bool:
    """Losses and accuracies, averaged over seeds; each seed's own would fill the line."""
    return "/" not in name and ("loss" in name or "accuracy" in name)
