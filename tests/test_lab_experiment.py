"""Running a lab experiment: what it writes, going on after being killed, and mistakes."""

import importlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from jaxnas import lab_experiment
from jaxnas.core.errors import UserError
from jaxnas.evaluate.lab.experiments import EXPERIMENTS
from jaxnas.evaluate.lab.findings import Experiment, Findings
from jaxnas.lab_experiment import make_experiment, run_lab

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = sorted(path.stem for path in (ROOT / "configs" / "lab").glob("*.py") if path.stem != "common")
TINY = {
    "width": 3,
    "batches": 4,
    "batch_size": 16,
    "draws": (1, 2),
    "rates": (0.1, 0.5, 5),
    "pretraining": 2,
}


def config_of(name, **settings):
    config = importlib.import_module(f"configs.lab.{name}").get_config()
    with config.unlocked():
        config.settings.update(settings)
    return config


def tiny(**changed):
    return config_of("stochastic_rounding", **(TINY | changed))


def command(workdir, *flags):
    fields = [f"--config.settings.{name}={value}" for name, value in TINY.items()]
    config = f"--config={ROOT / 'configs/lab/stochastic_rounding.py'}"
    every = "--config.checkpoint.every_seconds=0"
    return [sys.executable, str(ROOT / "launch/lab.py"), config, f"--workdir={workdir}", every, *fields, *flags]


def outcome(workdir):
    result = json.loads((workdir / "result.json").read_text())
    del result["seconds"]
    return result, (workdir / "metrics.jsonl").read_text()


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("lab") / "run"
    done = subprocess.run(command(workdir), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return workdir, done.stdout


def test_a_run_writes_what_it_promises(finished):
    workdir, printed = finished
    result, metrics = outcome(workdir)
    assert result["experiment"] == "stochastic_rounding"
    assert set(result["numbers"]) == {"raw", "pretrained"}
    assert result["numbers"]["raw"]["the STE lowers the loss"]["of"] == TINY["batches"]
    rows = [json.loads(line) for line in metrics.splitlines()]
    assert [row["step"] for row in rows] == list(range(1, 2 * TINY["batches"] + 1))
    assert "student=raw/batch=0/before" in rows[0]
    assert all(sentence in printed for sentence in result["sentences"])
    assert "<html" in (workdir / "report.html").read_text()


def test_a_finished_run_is_not_run_again(finished):
    before = outcome(finished[0])
    again = subprocess.run(command(finished[0]), capture_output=True, text=True, check=False)
    assert again.returncode == 0 and "nothing is left to do" in again.stderr
    assert outcome(finished[0]) == before


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=lambda number: number.name)
def test_a_stopped_run_ends_as_if_it_had_not_been(number, finished, tmp_path):
    workdir = tmp_path / "run"
    process = subprocess.Popen(command(workdir), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    with process:
        while not list((workdir / "checkpoints").glob("[0-9]*")):
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.005)
        os.kill(process.pid, number)
        error = process.stderr.read()
    if number == signal.SIGTERM and process.returncode != 0:  # it may have been done before the signal came
        assert process.returncode == 128 + number
        assert re.search(r"SIGTERM: stopped in stochastic_rounding after \d of 8 measurements, saved;", error)
    again = subprocess.run(command(workdir), capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert outcome(workdir) == outcome(finished[0])


def test_what_was_measured_survives_a_cell_that_fails(tmp_path, monkeypatch):
    measured, failing = [], [3]

    def measure(cell):
        if cell["batch"] in failing:
            raise RuntimeError("no more")
        measured.append(cell["batch"])
        return {"value": np.asarray(float(cell["batch"]))}

    found = Findings({}, (), (), ())
    experiment = Experiment(
        "stochastic_rounding", tuple({"batch": n} for n in range(6)), {"value": ()}, measure, lambda _: found
    )
    monkeypatch.setattr(lab_experiment, "make_experiment", lambda config: experiment)
    with pytest.raises(RuntimeError, match="no more"):
        run_lab(tiny(), tmp_path / "run")
    failing.clear()
    measured.clear()
    run_lab(tiny(), tmp_path / "run")
    assert sorted(measured) == [3, 4, 5]
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row[f"batch={n}/value"] for n, row in enumerate(rows)] == list(range(6))


def test_settings_that_small_replaces_are_not_lost_in_silence(tmp_path):
    without_settings = command(tmp_path / "run")[:5]
    flags = [*without_settings, "--config.small=True", "--config.settings.batches=1"]
    done = subprocess.run(flags, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and not (tmp_path / "run").exists()
    assert done.stderr == "settings.batches does not count with small=True; give --config.when_small.batches instead.\n"


def test_a_changed_config_is_refused(finished, capsys):
    changed = subprocess.run(command(finished[0], "--config.seed=1"), capture_output=True, text=True, check=False)
    assert changed.returncode == 2
    assert "seed (was 0, is now 1)" in changed.stderr


@pytest.mark.parametrize("small", [True, False])
@pytest.mark.parametrize("name", CONFIGS)
def test_every_config_makes_its_experiment(name, small):
    config = config_of(name)
    config.small = small
    experiment = make_experiment(config)
    assert experiment.name == name and len(experiment.cells) > 0
    for cell in experiment.cells:
        json.dumps(cell)


def test_every_experiment_has_a_config():
    assert set(EXPERIMENTS) == set(CONFIGS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"experiment": "stochastic_roundin"}, "unknown experiment 'stochastic_roundin'; did you mean"),
        ({"settings": {"widht": 3}}, "unknown setting of stochastic_rounding 'widht'; did you mean 'width'?"),
        ({"settings": {"draws": (0,)}}, "draws must be at least 1, not 0."),
    ],
)
def test_mistakes(change, message, tmp_path):
    config = tiny()
    with config.unlocked():
        config.update(change)
    with pytest.raises(UserError) as caught:
        run_lab(config, tmp_path / "run")
    assert message in str(caught.value)
    assert not (tmp_path / "run").exists()
