"""Whole runs through the launcher: what they write, and that nothing that befalls them changes it."""

import html
import json
import random
import re
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from tiny_run import (
    PHASES,
    Process,
    arguments,
    contents,
    launch,
    outcome,
    saved_steps,
    unfinished_saves,
    write_data,
)

from jaxnas.costs.counting import network_cost
from jaxnas.networks.cell_network import CellNetwork
from jaxnas.spaces.cell import architecture, cell_space
from jaxnas.spaces.genotype import parse_genotype


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data") / "bright.npz")


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    """The workdir of a run that nothing befell, and what its command printed."""
    workdir = tmp_path_factory.mktemp("finished") / "run"
    with Process(arguments(workdir, data)) as process:
        code, output = process.end()
        assert code == 0, process.stderr
    return workdir, output


@pytest.fixture(scope="module")
def stopped(data, tmp_path_factory):
    """The workdir of a run that was told to stop during its search, and saved every step until then."""
    workdir = tmp_path_factory.mktemp("stopped") / "run"
    command = arguments(workdir, data, checkpoint__every_steps=2)
    with Process(command) as process:
        process.wait_for(lambda: len(saved_steps(workdir, "search")) >= 3)
        process.send(signal.SIGTERM)
        code, _ = process.end()
        message = re.search(r"^SIGTERM: stopped in search at step (\d+) of 15, saved; .*$", process.stderr, re.M)
    assert code == 128 + signal.SIGTERM
    assert message and saved_steps(workdir, "search")[-1] == int(message[1])
    return workdir, command


@pytest.fixture
def resumed(stopped, tmp_path):
    """A copy of the stopped run, and the command that continues it."""
    workdir, command = stopped
    shutil.copytree(workdir, tmp_path / "run")
    return tmp_path / "run", [each.replace(str(workdir), str(tmp_path / "run")) for each in command]


def test_a_run_writes_what_it_promises(finished):
    workdir, output = finished
    assert {path.name for path in workdir.iterdir()} == {
        *(
            "config.json",
            "metrics.jsonl",
            "tensorboard",
            "checkpoints",
            "genotypes.json",
            "result.json",
            "report.html",
            ".lock",
        )
    }
    result = json.loads((workdir / "result.json").read_text())
    assert (result["method"], result["space"], result["data"]) == ("darts", "darts", "bright")
    assert set(result["seconds"]) == {"compile", "search", "retrain"}
    assert min(result["seconds"].values()) > 0
    space = cell_space(nodes=1, operations=("none", "skip_connect", "max_pool_3x3"))
    for entry in (*result["per_seed"], *(each["random"] for each in result["per_seed"])):
        genotype = parse_genotype(entry["genotype"])
        assert space.canonical(architecture(space, genotype)) == entry["architecture"]
        network = CellNetwork(genotype, channels=2, layers=1, classes=3, auxiliary=False)
        assert entry["cost"] == network_cost(network, (4, 4, 1))._asdict()
        assert entry["retrained_accuracy"] * 12 == pytest.approx(round(entry["retrained_accuracy"] * 12))
    assert result["genotype"] in html.unescape((workdir / "report.html").read_text())
    for shown in (result["genotype"], f"{result['retrained_accuracy']:.2%}", str(workdir / "report.html"), "2 seeds"):
        assert shown in output


def test_seeds_are_summarised_and_the_one_with_the_best_search_is_selected(finished):
    result = json.loads((finished[0] / "result.json").read_text())
    seeds = result["per_seed"]
    assert [each["seed"] for each in seeds] == result["seeds"] == [0, 1]
    lists = {name: [each[name] for each in seeds] for name in ("search_accuracy", "retrained_accuracy")}
    lists["random_accuracy"] = [each["random"]["retrained_accuracy"] for each in seeds]
    for name, values in lists.items():
        assert result["summary"][name]["mean"] == pytest.approx(np.mean(values))
        assert result["summary"][name]["std"] == pytest.approx(np.std(values, ddof=1))
    best = seeds[int(np.argmax(lists["search_accuracy"]))]
    assert result["selected_seed"] == best["seed"]
    assert result["random_baseline"] == best["random"]
    for name in ("genotype", "architecture", "cost", "search_accuracy", "retrained_accuracy"):
        assert result[name] == best[name]


def test_metrics_have_a_row_for_every_epoch_of_every_task(finished):
    rows = [json.loads(line) for line in (finished[0] / "metrics.jsonl").read_text().splitlines()]
    ends = np.cumsum(list(PHASES.values()))
    expected = [*range(5, 16, 5), *(end - back for end in ends[1:] for back in (5, 0))]
    assert [row["step"] for row in rows] == expected
    first = rows[0]
    losses = [first[f"search/train_loss/seed_{seed}"] for seed in (0, 1)]
    assert losses[0] != losses[1]
    assert first["search/train_loss"] == pytest.approx(np.mean(losses))
    assert "random_seed_1/accuracy" in rows[-1]


def test_a_finished_run_is_left_as_it_is(finished, data, capsys):
    workdir, output = finished
    before = contents(workdir)
    assert launch(arguments(workdir, data)) == 0
    printed = capsys.readouterr()
    assert printed.out == output
    assert "holds this run, finished; nothing is left to do" in printed.err
    assert contents(workdir) == before


def test_a_lost_report_is_made_again_with_the_same_result(finished, data, tmp_path, capsys):
    workdir = tmp_path / "run"
    shutil.copytree(finished[0], workdir)
    (workdir / "report.html").unlink()
    assert launch(arguments(workdir, data)) == 0
    assert outcome(workdir) == outcome(finished[0])
    assert (workdir / "report.html").read_text().startswith("<!DOCTYPE html>")


def kill(command, moment, rng):
    """Runs a command until some moment of a phase, and kills it; whether it was in the middle of a save."""
    phase, kind = moment
    with Process(command) as process:
        folder = process.workdir
        before = unfinished_saves(folder, phase), saved_steps(folder, phase)[-1:]
        if kind == "saving":
            process.wait_for(lambda: unfinished_saves(folder, phase) - before[0])
        if kind == "saved":
            process.wait_for(lambda: saved_steps(folder, phase)[-1:] > before[1])
        if kind == "reporting":
            process.wait_for(lambda: (folder / "report.html.part").exists() or (folder / "report.html").exists())
        if kind == "saved":
            time.sleep(0.2 * rng.random())
        process.send(signal.SIGKILL)
        assert process.end()[0] == -signal.SIGKILL
    return bool(unfinished_saves(folder, phase) - before[0])


def test_a_run_killed_again_and_again_ends_as_if_it_had_not_been(finished, data, tmp_path):
    """The run that was not killed saved only at the ends of its tasks; when to save changes no result either."""
    command = arguments(tmp_path / "run", data, checkpoint__every_steps=2)
    rng = random.Random(0)
    moments = [
        ("search", "saving"),
        ("found_seed_1", "saved"),
        ("random_seed_1", "reporting"),
    ]
    while_saving = [kill(command, moment, rng) for moment in moments]
    assert any(while_saving)
    with Process(command) as process:
        assert process.end()[0] == 0, process.stderr
    assert outcome(tmp_path / "run") == outcome(finished[0])


def largest_file(folder: Path) -> Path:
    return max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)


def damage(checkpoint: Path, how: str) -> None:
    """Cuts off the second half of a checkpoint's arrays, or flips a bit in their middle."""
    array = largest_file(checkpoint / "state")
    content = bytearray(array.read_bytes())
    middle = len(content) // 2
    content[middle] ^= 1
    array.write_bytes(content[:middle] if how == "truncated" else content)


def test_neither_damage_nor_a_full_disk_changes_the_result(finished, resumed):
    """The disk is full twice: where a checkpoint of 3 kB does not fit, and where the report of 130 kB does not."""
    workdir, command = resumed
    used, flipped, truncated = saved_steps(workdir, "search")[-3:]
    damage(workdir / "checkpoints/search" / str(truncated), "truncated")
    damage(workdir / "checkpoints/search" / str(flipped), "flipped")
    with Process(command, largest_file=3_000) as process:
        assert process.end()[0] == 2, process.stderr
        *lines, error = process.stderr.splitlines()
    warnings = [line for line in lines if line.startswith("warning: ")]
    for step in (truncated, flipped):
        assert any(line.startswith(f"warning: the checkpoint of step {step} is damaged") for line in warnings)
    assert all(line.endswith(f"step {used} is used instead.") for line in warnings)
    assert re.match("a checkpoint cannot be written in .*: file too large; the earlier ones are intact, and", error)
    assert saved_steps(workdir, "search")[-1] == used
    with Process(command, largest_file=60_000) as process:
        assert process.end()[0] == 2, process.stderr
        *_, error = process.stderr.splitlines()
    assert re.match("cannot write the report .*: File too large.$", error)
    assert not (workdir / "result.json").exists()
    with Process(command) as process:
        assert process.end()[0] == 0, process.stderr
    assert outcome(workdir) == outcome(finished[0])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"epochs": 4}, r"differs .* epochs \(was 3, is now 4\); put"),
        ({"method__clip": 4.0, "seed": 1}, r"seed \(was 0, is now 1\).* method.clip \(was 5.0, is now 4.0\)"),
    ],
)
def test_a_changed_config_is_refused(resumed, data, capsys, fields, message):
    workdir, _ = resumed
    before = contents(workdir)
    assert launch(arguments(workdir, data, **fields)) == 2
    assert re.search(message, capsys.readouterr().err)
    assert contents(workdir) == before


def test_changed_data_are_refused_and_moved_data_are_not(stopped, data, tmp_path, capsys):
    workdir, _ = stopped
    other = write_data(tmp_path / "bright.npz", seed=5)
    assert launch(arguments(workdir, other)) == 2
    assert re.search(r"differs .*: data.sha256 \(was '\w{64}', is now '\w{64}'\); put", capsys.readouterr().err)


def test_a_second_process_is_refused_while_the_first_runs(resumed, capsys):
    workdir, command = resumed
    lock = workdir / ".lock"
    before = lock.read_text()
    with Process(command) as process:
        process.wait_for(lambda: lock.read_text() not in ("", before))
        process.send(signal.SIGSTOP)
        assert launch(command) == 2
        assert re.search(rf"another process.* {lock.read_text().strip()}\b", capsys.readouterr().err)


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_finite_state(data, tmp_path, capsys):
    command = arguments(tmp_path / "run", data, checkpoint__every_steps=1, method__weights_learning_rate=1e30)
    messages = []
    for _ in range(2):  # what was kept can be restored, and leads to the same end
        assert launch(command) == 2
        messages.append(capsys.readouterr().err.splitlines()[-1])
    pattern = r"search: the loss is not finite at step (\d+) of seed 0; the checkpoint of step (\d+) is kept; try .*\.$"
    found = re.match(pattern, messages[0])
    assert found and found[1] == found[2] == str(saved_steps(tmp_path / "run", "search")[-1])
    assert messages[0] == messages[1]
    assert not (tmp_path / "run/result.json").exists()


def test_a_search_that_collapses_is_stopped_early(data, tmp_path):
    """Where edges can only be identities the normal cell has two at once: one epoch of three, and a report of it."""
    fields = {"space__operations": "('none','skip_connect')", "monitor__skips": 1, "retrain__epochs": 0}
    command = arguments(tmp_path / "run", data, **fields)
    assert launch(command) == 0
    rows = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [5]
    assert saved_steps(tmp_path / "run", "search")[-1] == 5
    report = html.unescape((tmp_path / "run/report.html").read_text())
    assert "stopped" in report
    before = json.loads((tmp_path / "run/result.json").read_text())
    (tmp_path / "run/result.json").unlink()  # made again from the checkpoint, without another step
    assert launch(command) == 0
    assert json.loads((tmp_path / "run/result.json").read_text()) == before
