import importlib
import io
import json
import struct

import numpy as np
import pytest
from rich.console import Console

from jaxnas.core.errors import UserError
from jaxnas.train.logging import MetricLog, Pace, Progress, format_seconds
from jaxnas.train.workdir import prepare


def read_events(directory):
    """What TensorBoard would read: (step, {tag: value}) and ("restart", step), over all files in order."""
    event_class = importlib.import_module("tensorboardX.proto.event_pb2").Event
    found = []
    for path in sorted(directory.iterdir(), key=lambda path: path.name.rpartition(".")[2]):
        content, position = path.read_bytes(), 0
        while position < len(content):
            (length,) = struct.unpack_from("Q", content, position)
            event = event_class.FromString(content[position + 12 : position + 12 + length])
            position += length + 16
            if event.HasField("session_log"):
                found.append(("restart", event.step))
            if event.HasField("summary"):
                found.append((event.step, {value.tag: value.simple_value for value in event.summary.value}))
    return found


def row(step):
    return {"search/train_loss": 1 / 2**step, "search/valid_accuracy": step / 4}


def test_rows_are_on_the_disk_at_once_in_both_files(tmp_path):
    with prepare(tmp_path) as workdir, MetricLog(workdir) as log:
        for step in (1, 2):
            log.write(step, row(step))
            lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
            assert [json.loads(line) for line in lines] == [{"step": n, **row(n)} for n in range(1, step + 1)]
            assert read_events(tmp_path / "tensorboard") == [(n, row(n)) for n in range(1, step + 1)]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), np.float32("-inf")])
def test_what_is_not_finite_is_null(tmp_path, value):
    with MetricLog(tmp_path) as log:
        log.write(1, {"loss": value, "accuracy": np.float32(0.5)})
    line = (tmp_path / "metrics.jsonl").read_text()
    assert json.loads(line, parse_constant=pytest.fail) == {"step": 1, "loss": None, "accuracy": 0.5}
    ((_, values),) = read_events(tmp_path / "tensorboard")
    np.testing.assert_equal(values["loss"], float(value))


@pytest.mark.parametrize("tail", ["", '{"step": 6, "loss"', '{"step": 6, "loss": 1.0}', "null\n", "\n", '{"x": 1}\n'])
@pytest.mark.parametrize("reached", [3, 5])
def test_a_resumed_log_equals_one_that_was_never_stopped(tmp_path, tail, reached):
    def run(directory, first, last):
        directory.mkdir(exist_ok=True)
        with MetricLog(directory) as log:
            log.rewind(first - 1)
            for step in range(first, last + 1):
                log.write(step, row(step))

    run(tmp_path / "straight", 1, 8)
    run(tmp_path / "stopped", 1, 5)
    with (tmp_path / "stopped" / "metrics.jsonl").open("a") as file:
        file.write(tail)
    run(tmp_path / "stopped", reached + 1, 8)
    texts = [(tmp_path / name / "metrics.jsonl").read_bytes() for name in ("straight", "stopped")]
    assert texts[0] == texts[1]
    assert {path.name for path in (tmp_path / "stopped").iterdir()} == {"metrics.jsonl", "tensorboard"}
    before, after = [("restart", 1)], [("restart", reached + 1)]
    before += [(step, row(step)) for step in range(1, 6)]
    after += [(step, row(step)) for step in range(reached + 1, 9)]
    assert read_events(tmp_path / "stopped" / "tensorboard") == before + after


def test_rewinding_to_the_start_forgets_all_and_a_new_log_has_nothing_to_forget(tmp_path):
    with MetricLog(tmp_path) as log:
        log.rewind(0)
        assert list(tmp_path.iterdir()) == []
        log.write(1, row(1))
        log.rewind(0)
        assert (tmp_path / "metrics.jsonl").read_text() == ""
        log.write(1, row(2))
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == {"step": 1, **row(2)}


def test_a_full_disk_is_one_sentence(tmp_path, largest_file):
    with MetricLog(tmp_path) as log:
        log.write(1, row(1))
        with largest_file(1000), pytest.raises(UserError, match=r"metrics cannot be logged in .*: file too large; the"):
            for step in range(2, 100):
                log.write(step, row(step))
    with MetricLog(tmp_path) as log:
        log.rewind(1)
        log.write(2, row(2))
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [{"step": step, **row(step)} for step in (1, 2)]


@pytest.mark.parametrize(
    ("initial", "updates", "total", "expected"),
    [
        (0, [], 10, None),
        (0, [(1, 60.0)], 10, None),  # a minute of compiling tells nothing about the second step
        (0, [(1, 60.0), (3, 64.0)], 10, 14.0),
        (0, [(1, 60.0), (3, 64.0), (9, 68.0)], 10, 1.0),
        (100, [(101, 5.0), (103, 6.0)], 203, 50.0),  # steps of an earlier process do not count
        (0, [(1, 60.0), (10, 69.0)], 10, 0.0),
        (9, [(10, 69.0)], 10, 0.0),
    ],
)
def test_time_left_is_the_mean_pace_after_the_first_update(initial, updates, total, expected):
    pace = Pace(initial)
    for step, now in updates:
        pace.update(step, now)
    step = updates[-1][0] if updates else initial
    assert pace.seconds_left(step, total) == expected


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (0.2, "1s"), (59, "59s"), (59.5, "1m00s"), (62, "1m02s"), (3599, "59m59s"), (11100, "3h05m")],
)
def test_format_seconds(seconds, text):
    assert format_seconds(seconds) == text


def show(updates, **settings):
    console = Console(file=io.StringIO(), width=200, **settings.pop("console", {}))
    with Progress("search", epochs=5, console=console, **settings) as progress:
        progress.start(20, 3)
        for step, metrics in updates:
            progress.update(step, metrics)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


UPDATES = [
    (4, {"train_loss": 1.25, "valid_accuracy": 0.5, "valid_accuracy/seed_0": 0.4, "entropy": 2.0}),
    (6, {}),
    (20, {"train_loss": 0.125}),
]


def test_lines_where_there_is_no_terminal():
    assert show(UPDATES[:1], seconds_per_line=0.0) == (
        "search 1/5 epochs  step 4/20  train_loss 1.25  valid_accuracy 0.5\n"
    )
    first, second, last = show(UPDATES, seconds_per_line=0.0).splitlines()
    assert first == "search 1/5 epochs  step 4/20  train_loss 1.25  valid_accuracy 0.5"
    assert second == "search 1/5 epochs  step 6/20  train_loss 1.25  valid_accuracy 0.5  1s left"
    assert last == "search 5/5 epochs  step 20/20  train_loss 0.125  valid_accuracy 0.5  0s left"


def test_few_lines_where_steps_are_fast():
    assert show(UPDATES, seconds_per_line=3600.0).splitlines() == [
        "search 5/5 epochs  step 20/20  train_loss 0.125  valid_accuracy 0.5  0s left"
    ]


def test_a_bar_on_a_terminal():
    output = show(UPDATES, console={"force_terminal": True, "color_system": None, "legacy_windows": False})
    assert "search 5/5 epochs  step 20/20" in output
    assert "train_loss 0.125  valid_accuracy 0.5  0s left" in output
    assert "━" in output
