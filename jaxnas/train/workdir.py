"""The directory of one run: owned by one process at a time, written so that a crash or a full disk loses nothing."""

import contextlib
import errno
import fcntl
import json
import math
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from jaxnas.core.errors import UserError

# What a person has to mend outside the program: full, over quota, over a size limit, forbidden, read-only, failing.
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO)


def disk_problem(error: BaseException) -> str | None:
    """The operating system's words when `error` comes from the disk (full, read-only, forbidden), else None.

    Errors that crossed a thread or a C++ library keep the words and lose the number, so causes, groups and texts are
    searched as well.
    """
    pending, seen = [error], set()
    while pending:
        current = pending.pop()
        if id(current) in seen:
            continue
        seen.add(id(current))
        if isinstance(current, OSError) and current.errno in _DISK_ERRORS:
            return os.strerror(current.errno)
        for number in _DISK_ERRORS:
            if os.strerror(number) in str(current):
                return os.strerror(number)
        if isinstance(current, BaseExceptionGroup):
            pending.extend(current.exceptions)
        pending.extend(linked for linked in (current.__cause__, current.__context__) if linked is not None)
    return None


@contextlib.contextmanager
def disk_errors(what: str, then: str) -> Iterator[None]:
    """Turns errors of the disk into a UserError: "`what`: no space left on device; `then`."."""
    try:
        yield
    except Exception as error:
        problem = disk_problem(error)
        if problem is None or isinstance(error, UserError):
            raise
        raise UserError(f"{what}: {problem[0].lower()}{problem[1:]}; {then}.") from error


class Workdir:
    """A locked directory; it can be used wherever a path can, and as a context manager. Made by `prepare`."""

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self._lock: int | None = lock

    def __fspath__(self) -> str:
        return str(self.path)

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def close(self) -> None:
        """Releases the lock; the file stays, because removing it would let two processes lock two different files."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> "Workdir":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def prepare(path: str | os.PathLike[str], *, files: Sequence[str] = (), folders: Sequence[str] = ()) -> Workdir:
    """Makes the directory where it is missing, checks that it can be written, and locks it against other processes.

    The lock is the kernel's: it ends with the process, however that ends. Raises UserError when the path is no
    directory or cannot be written, when another process (named by its pid) holds it, and when one of `files`, which
    will be written, is there as a folder, or one of `folders` as a file.
    """
    directory = Path(path).absolute()
    what = f"the workdir {str(directory)!r} cannot be written"
    try:
        with disk_errors(what, "choose another --workdir"):
            directory.mkdir(parents=True, exist_ok=True)
            lock = os.open(directory / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    except (FileExistsError, NotADirectoryError) as error:
        file = next(part for part in (directory, *directory.parents) if os.path.lexists(part) and not part.is_dir())
        raise UserError(f"{what}: {str(file)!r} is not a folder; choose another --workdir.") from error
    except OSError as error:  # a name too long, a parent that is no real file system, ...
        raise UserError(f"{what}: it cannot be made there ({error.strerror}); choose another --workdir.") from error
    for name in (*files, *folders):
        entry = directory / name
        if os.path.lexists(entry) and entry.is_dir() == (name in files):
            kinds = ("a folder", "a file") if name in files else ("a file", "a folder")
            raise UserError(f"{str(entry)!r} is {kinds[0]} and has to be {kinds[1]}; move it away.")
    try:
        with disk_errors(what, "free some space, or choose another --workdir"):
            _take(lock, directory)
    except BaseException:
        os.close(lock)
        raise
    return Workdir(directory, lock)


def _take(lock: int, directory: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.pread(lock, 32, 0).decode(errors="replace").strip() or "unknown"
        raise UserError(
            f"the workdir {str(directory)!r} is in use by another process (pid {holder}); "
            "wait for it to end, stop it, or choose another --workdir."
        ) from error
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    os.fsync(lock)


# What a run writes into its directory.
ENTRIES = {
    "files": ("config.json", "metrics.jsonl", "genotypes.json", "result.json", "report.html"),
    "folders": ("checkpoints", "tensorboard"),
}


def begin(folder: Workdir, config: Mapping[str, Any], free_fields: Sequence[str]) -> dict[str, Any] | None:
    """The result of the finished run in a directory; None where one is to be started or continued, its config written.

    Raises UserError where the run there is of another kind, had another config, apart from `free_fields`, or lost its
    config: its checkpoints could then be those of any other. A run without its report is continued, which writes it
    again.
    """
    if (folder / "config.json").exists():
        known = set(read_json(folder / "config.json"))
        if 2 * len(known & set(config)) < len(known | set(config)):
            raise UserError(
                f"{str(folder.path)!r} holds the config.json of something else, with the fields "
                f"{', '.join(sorted(known))}; choose another --workdir."
            )
    if (folder / "checkpoints").exists() or (folder / "result.json").exists():
        if not (folder / "config.json").exists():
            raise UserError(
                f"{str(folder.path)!r} holds a run but not its config.json; put that back, or choose another --workdir."
            )
        refuse_changes(read_json(folder / "config.json"), config, free_fields)
    if (folder / "result.json").exists() and (folder / "report.html").exists():
        result = read_json(folder / "result.json")
        print(f"{folder.path} holds this run, finished; nothing is left to do.", file=sys.stderr)
        return result
    write_json(folder / "config.json", config)
    return None


def write_json(path: str | os.PathLike[str], data: Any) -> None:
    """Writes strictly valid JSON in one indivisible step; numbers that are not finite become null.

    Raises UserError when the disk is full or cannot be written; the file that stood there before is then untouched.
    """
    write_text(path, json.dumps(plain(data), indent=2, allow_nan=False) + "\n")


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Replaces a text file in one indivisible step; raises UserError, the old file untouched, when the disk fails."""
    target = Path(path)
    temporary = target.with_name(f"{target.name}.{os.getpid()}.tmp")
    with disk_errors(f"{str(target)!r} cannot be written", "what stood there before is kept"):
        try:
            with temporary.open("w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)


_MEND = "put an intact copy there, or move it away: a result is made again from its checkpoints"


def read_json(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads the fields of a JSON file; raises UserError when it is missing, damaged or cannot be read."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"there is no file {os.fspath(path)!r}.") from error
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UserError(f"{os.fspath(path)!r} is damaged: it is not valid JSON ({error}); {_MEND}.") from error
    except OSError as error:
        raise UserError(f"{os.fspath(path)!r} cannot be read: {error.strerror}.") from error
    if not isinstance(content, dict) or not content:
        raise UserError(f"{os.fspath(path)!r} is damaged: it holds no fields; {_MEND}.")
    return content


def plain(data: Any) -> Any:
    """The same data as JSON knows it: dicts with text keys, lists, numbers, None for numbers that are not finite."""
    if isinstance(data, Mapping):
        return {str(key): plain(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [plain(value) for value in data]
    if isinstance(data, float):
        return float(data) if math.isfinite(data) else None
    to_list = getattr(data, "tolist", None)  # arrays, and numpy's scalars
    return data if to_list is None else plain(to_list())


def changed_fields(old: Mapping[str, Any], new: Mapping[str, Any], ignore: Sequence[str] = ()) -> list[str]:
    """Which fields of two nested settings differ, each as "data.name (was 'digits', is now 'cifar10')".

    A tuple equals the list that it becomes in JSON. `ignore` holds dotted names; each stands for all that is below it.
    """
    before, now = _flatten(plain(old)), _flatten(plain(new))
    changes = []
    for name in [*before, *(name for name in now if name not in before)]:
        ignored = any(name == entry or name.startswith(f"{entry}.") for entry in ignore)
        if not ignored and (name not in before or name not in now or before[name] != now[name]):
            was = repr(before[name]) if name in before else "not set"
            is_now = repr(now[name]) if name in now else "not set"
            changes.append(f"{name} (was {was}, is now {is_now})")
    return changes


def refuse_changes(old: Mapping[str, Any], new: Mapping[str, Any], ignore: Sequence[str] = ()) -> None:
    """Raises UserError naming the fields that differ from the settings that a run was started with."""
    changes = changed_fields(old, new, ignore)
    if changes:
        raise UserError(
            f"config differs from the one this run was started with: {'; '.join(changes)}; "
            "put the old values back, or choose another --workdir."
        )


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        flat |= _flatten(value, f"{name}.") if isinstance(value, Mapping) and value else {name: value}
    return flat
