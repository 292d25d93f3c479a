import errno
import json
import os

import numpy as np
import pytest

from jaxnas.core.errors import UserError
from jaxnas.train.workdir import (
    changed_fields,
    disk_problem,
    plain,
    prepare,
    read_json,
    refuse_changes,
    write_json,
)

HOLDER = (
    "import sys, time\n"
    "from jaxnas.train.workdir import prepare\n"
    "with prepare(sys.argv[1]):\n"
    "    print('locked', flush=True)\n"
    "    time.sleep(600)\n"
)


def test_prepare_makes_the_directory_and_can_be_used_as_a_path(tmp_path):
    with prepare(tmp_path / "runs" / "first") as workdir:
        assert os.fspath(workdir) == str(tmp_path / "runs" / "first")
        (workdir / "file").write_text("x")
    assert (tmp_path / "runs" / "first" / "file").read_text() == "x"


def test_a_second_process_is_refused_and_a_kill_releases_the_lock(tmp_path, start):
    process = start(HOLDER, tmp_path)
    assert process.stdout.readline() == "locked\n"
    with pytest.raises(UserError, match=rf"in use by another process \(pid {process.pid}\)"):
        prepare(tmp_path)
    process.kill()
    process.wait()
    prepare(tmp_path).close()


def test_the_lock_names_its_new_holder_and_ends_with_close(tmp_path):
    (tmp_path / ".lock").write_text("123456789012345\n")
    workdir = prepare(tmp_path)
    with pytest.raises(UserError, match=rf"\(pid {os.getpid()}\)"):
        prepare(tmp_path)
    workdir.close()
    workdir.close()
    prepare(tmp_path).close()


def test_names_that_the_system_refuses(tmp_path):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(UserError, match=r"loop' is not a folder; choose another --workdir"):
        prepare(tmp_path / "loop")
    with pytest.raises(UserError, match=r"it cannot be made there \(File name too long\)"):
        prepare(tmp_path / ("x" * 300))


@pytest.mark.parametrize("inside", [".", "below", "below/deeper"])
def test_a_file_is_no_workdir(tmp_path, inside):
    (tmp_path / "file").write_text("kept")
    with pytest.raises(UserError, match=r"file' is not a folder; choose another --workdir"):
        prepare(tmp_path / "file" / inside)
    assert (tmp_path / "file").read_text() == "kept"


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to the superuser")
def test_a_directory_without_write_permission_is_refused(tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    for path in (tmp_path / "locked", tmp_path / "locked" / "below"):
        with pytest.raises(UserError, match="cannot be written: permission denied"):
            prepare(path)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS])
def test_what_the_system_refuses_is_one_sentence_about_the_workdir(tmp_path, monkeypatch, number):
    def refuse(*_args, **_kwargs):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(UserError, match=r"^the workdir '.*' cannot be written: [a-z].*; choose another --workdir.$"):
        prepare(tmp_path)


def test_a_full_disk_while_locking_is_reported_and_leaves_nothing_locked(tmp_path, largest_file):
    with largest_file(0), pytest.raises(UserError, match="file too large; free some space"):
        prepare(tmp_path)
    prepare(tmp_path).close()


def _wrapped(inner, how):
    if how == "group":
        return ExceptionGroup("several", [KeyError("x"), inner])
    outer = RuntimeError(f"RESOURCE_EXHAUSTED: writing: {inner}" if how == "text" else "save failed")
    if how == "cause":
        outer.__cause__ = inner
    if how == "context":
        outer.__context__ = inner
    inner.__context__ = outer  # a cycle must not be followed for ever
    return outer


@pytest.mark.parametrize("how", ["cause", "context", "group", "text"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EROFS])
def test_a_disk_problem_is_found_through_wrappers(how, number):
    assert disk_problem(_wrapped(OSError(number, os.strerror(number)), how)) == os.strerror(number)
    assert disk_problem(_wrapped(OSError(errno.ENOENT, os.strerror(errno.ENOENT)), how)) is None


def test_json_round_trip(tmp_path):
    data = {"a": (1, 2.5), "b": {"c": None, "d": True}, "e": "é", 3: np.float32(0.5), "f": np.arange(2)}
    write_json(tmp_path / "x.json", data)
    assert read_json(tmp_path / "x.json") == {
        "a": [1, 2.5],
        "b": {"c": None, "d": True},
        "e": "é",
        "3": 0.5,
        "f": [0, 1],
    }


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), np.float32("nan"), np.array(np.inf)])
def test_numbers_that_are_not_finite_become_null(tmp_path, bad):
    assert plain({"x": [bad, 1.0]}) == {"x": [None, 1.0]}
    write_json(tmp_path / "x.json", {"x": [bad, 1.0]})
    assert json.loads((tmp_path / "x.json").read_text(), parse_constant=pytest.fail) == {"x": [None, 1.0]}


def test_a_full_disk_leaves_the_old_file(tmp_path, largest_file):
    path = tmp_path / "x.json"
    write_json(path, {"old": 1})
    with largest_file(10_000), pytest.raises(UserError, match=r"x.json' cannot be written: file too large; .* kept.$"):
        write_json(path, {"new": "n" * 20_000})
    assert read_json(path) == {"old": 1}
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.json"]


@pytest.mark.parametrize("content", [b"", b'{"a": 1', b"\xff\xfe\x00"])
def test_a_damaged_file_is_named(tmp_path, content):
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(UserError, match=r"x.json' is damaged"):
        read_json(tmp_path / "x.json")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"there is no file '.*x.json'"):
        read_json(tmp_path / "x.json")
    with pytest.raises(UserError, match="cannot be read: Is a directory"):
        read_json(tmp_path)


OLD = {"epochs": 50, "space": {"ops": ("a", "b"), "channels": 16}, "data": {"path": None}, "checkpoint": {"keep": 2}}


@pytest.mark.parametrize(
    ("change", "ignore", "expected"),
    [
        ({}, [], []),
        ({"epochs": 60}, [], ["epochs (was 50, is now 60)"]),
        ({"epochs": 60}, ["epochs"], []),
        ({"epochs": 60}, ["epoch"], ["epochs (was 50, is now 60)"]),
        ({"space": {"ops": ["a", "b"], "channels": 16}}, [], []),
        ({"space": {"ops": ["a"], "channels": 16}}, [], ["space.ops (was ['a', 'b'], is now ['a'])"]),
        ({"space": {"ops": ("a", "b")}}, [], ["space.channels (was 16, is now not set)"]),
        ({"data": {"path": "x"}}, [], ["data.path (was None, is now 'x')"]),
        ({"checkpoint": {"keep": 3}}, ["checkpoint"], []),
        ({"checkpoint": {"keep": 3}}, ["checkpoint.every_steps"], ["checkpoint.keep (was 2, is now 3)"]),
        ({"seed": 1, "epochs": 5}, [], ["epochs (was 50, is now 5)", "seed (was not set, is now 1)"]),
        ({"space": {}}, ["space.ops"], ["space.channels (was 16, is now not set)", "space (was not set, is now {})"]),
    ],
)
def test_changed_fields(change, ignore, expected):
    new = OLD | change
    assert changed_fields(OLD, new, ignore) == expected
    assert changed_fields(json.loads(json.dumps(OLD)), new, ignore) == expected
    if not expected:
        refuse_changes(OLD, new, ignore)
        return
    with pytest.raises(UserError) as refused:
        refuse_changes(OLD, new, ignore)
    assert f"config differs from the one this run was started with: {'; '.join(expected)};" in str(refused.value)
