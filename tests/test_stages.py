"""A search in stages: every stage continues the one before, and can be killed and continued itself."""

import json
import signal

import numpy as np
import pytest
from tiny_run import Process, arguments, launch, outcome, saved_steps, write_data

from jaxnas.core.errors import UserError
from jaxnas.methods import METHODS, Arch, Setup, Weights
from jaxnas.networks.families import FAMILIES
from jaxnas.networks.family import Images

STAGES = ("stage_1", "stage_2", "stage_3")
FIELDS = {
    "num_seeds": 1,
    "epochs": 6,
    "retrain__epochs": 0,
    "method__stage_layers": "(1,1,2)",
    "method__stage_channels": "(2,2,2)",
    "method__stage_operations": "(3,3,2)",
    "method__stage_dropout": "(0.0,0.3,0.3)",
    "method__warmup_epochs": 1,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data") / "bright.npz")


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("finished") / "run"
    assert launch(arguments(workdir, data, "p_darts", **FIELDS)) == 0
    return workdir


def test_stages_follow_one_another(finished):
    """One row of metrics for each epoch of each stage, and every restricted genotype beside the one found."""
    rows = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [5, 10, 15, 20, 25, 30]
    for number, stage in enumerate(STAGES):
        of_stage = rows[2 * number : 2 * number + 2]
        assert all(f"{stage}/train_loss" in row for row in of_stage)
        # The architecture learns after the warm-up alone.
        assert [row[f"{stage}/logits_loss"] is None for row in of_stage] == [True, False]
    genotypes = json.loads((finished / "genotypes.json").read_text())
    assert set(genotypes) == {"0", "at most 2 skips", "at most 1 skips", "at most 0 skips"}
    assert genotypes["0"] == genotypes["at most 2 skips"]["0"]
    assert "skip_connect" not in genotypes["at most 0 skips"]["0"].partition("reduce=")[0]


def test_killed_in_a_stage_and_continued_it_ends_the_same(finished, data, tmp_path):
    """One stage had ended and one had not begun; the contract of all methods continues in every stage."""
    workdir = tmp_path / "run"
    command = arguments(workdir, data, "p_darts", **FIELDS, checkpoint__every_steps=2)
    with Process(command) as process:
        process.wait_for(lambda: saved_steps(workdir, STAGES[1]))
        process.send(signal.SIGKILL)
        process.end()
    assert not (workdir / "result.json").exists()
    assert launch(command) == 0
    assert outcome(workdir, STAGES) == outcome(finished, STAGES)


LEARNED = {"weights": Weights(0.1, 0.0, 0.9, 0.0, 5.0), "logits": Arch(0.1, 0.0)}
GOOD = {
    "stage_layers": (2, 3),
    "stage_channels": (2, 2),
    "stage_operations": (3, 2),
    "stage_dropout": (0.0, 0.5),
    "warmup_epochs": 1,
    "skips": 2,
    "order": 1,
    "hessian": "autodiff",
}


@pytest.mark.parametrize(
    ("changed", "epochs", "message"),
    [
        ({"stage_operations": (3, 2, 2)}, 4, "stage_operations has 3 entries, but method.stage_layers has 2"),
        ({"stage_layers": ()}, 4, "method.stage_layers is empty, but a search needs at least one stage"),
        ({"stage_operations": (2, 3)}, 4, "starts with 2, but the edges of this space have 3 operations"),
        (
            {name: value * 2 for name, value in GOOD.items() if name.startswith("stage")}
            | {"stage_operations": (3, 2, 3, 2)},
            8,
            "grows from 2 to 3 in stage 3; operations that were dropped do not come back, so take at most 2",
        ),
        ({"stage_operations": (3, 1)}, 4, "ends below 2, but an edge needs two operations to choose between"),
        ({}, 5, "5 epochs cannot be shared equally by 2 stages; the nearest number that can is 4"),
        ({"warmup_epochs": 2}, 4, "warmup_epochs is 2, but a stage has 2 epochs, of which at least one"),
    ],
)
def test_lists_of_stages_have_to_fit(changed, epochs, message):
    family = FAMILIES["darts"](
        Images(4, 4, 1, 3),
        channels=2,
        layers=1,
        nodes=1,
        operations=("none", "skip_connect", "max_pool_3x3"),
        reduce_operations=(),
        retrain_channels=2,
        retrain_layers=1,
        retrain_auxiliary=False,
    )
    with pytest.raises(UserError, match=message):
        METHODS["p_darts"](Setup(family.space, family.supernet, 3, epochs), **LEARNED, **(GOOD | changed))


def test_a_later_stage_has_what_the_earlier_one_kept(finished):
    """The options that a stage may choose between shrink: what it derives lies among what was kept."""
    result = json.loads((finished / "result.json").read_text())
    assert result["genotype"] and np.isfinite(result["search_accuracy"])
