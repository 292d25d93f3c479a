"""One step along an estimated gradient: losses at rates, the best rate, and what is concluded from them."""

import importlib
import json

import jax
import numpy as np
import pytest

from jaxnas.core.errors import UserError
from jaxnas.evaluate import lab
from jaxnas.evaluate.lab import contenders, one_step, one_step_findings
from jaxnas.evaluate.lab.comparison import Comparison
from jaxnas.lab_experiment import make_experiment
from jaxnas.networks import sign_network

TINY = {
    "seed": 0,
    "task": "teacher",
    "dims": (3,),
    "inits": 1,
    "batches": 2,
    "batch_size": 64,
    "layers": 3,
    "students": ("raw",),
    "pretraining": 2,
    "estimators": ("ste", "cdg", "nes_4", "smoothed"),
    "sigma": 0.1,
    "epsilon": 0.1,
    "normalise": "tensors",
}
COMPARISON = Comparison(**{name: TINY[name] for name in Comparison._fields})
RATES = {"rates": (1e-9, 1.0, 10), "fine_rates": (0.1, 1.0, 10)}


def measured(experiment):
    cells = [experiment.measure(cell) for cell in experiment.cells]
    assert {name: values.shape for name, values in cells[0].items()} == dict(experiment.shapes)
    return {name: np.stack([cell[name] for cell in cells]) for name in experiment.shapes}


@pytest.fixture(scope="module")
def tiny():
    experiment = one_step.loss_decrease(**TINY, **RATES)
    return experiment, measured(experiment)


def test_a_vanishing_step_changes_nothing_and_the_best_rate_beats_the_grid(tiny):
    _, found = tiny
    np.testing.assert_allclose(found["decrease"][:, 0], 0, atol=1e-7)
    assert (found["best_decrease"] >= found["decrease"].max(axis=1) - 1e-12).all()
    assert (found["best_decrease"] >= -1e-12).all()
    assert ((found["best_rate"] >= 0) & (found["best_rate"] <= 1)).all()


def test_the_decrease_is_that_of_the_network_after_the_step(tiny):
    experiment, found = tiny
    problem = COMPARISON.problems()(experiment.cells[1])
    gradient = lab.gradient("cdg", problem.params, problem.x, problem.y, epsilon=0.1)
    unit = jax.tree.map(lambda leaf: leaf / max(np.linalg.norm(leaf), 1e-30), gradient)
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), (problem.params, unit, problem.x, problem.y))
        params, direction, x, y = wide
        moved = jax.tree.map(lambda weight, step: weight - 0.5 * step, params, direction)
        decrease = float(sign_network.loss(params, x, y) - sign_network.loss(moved, x, y))
    rates = np.unique(np.concatenate([np.geomspace(*RATES["rates"]), np.linspace(*RATES["fine_rates"])]).round(12))
    assert experiment.cells[1] == {"dim": 3, "student": "raw", "init": 0, "batch": 0, "estimator": "cdg"}
    assert found["decrease"][1, np.flatnonzero(rates == 0.5)[0]] == pytest.approx(decrease, abs=1e-6)


def test_measuring_again_gives_the_same_bits(tiny):
    _, found = tiny
    again = one_step.loss_decrease(**TINY, **RATES)
    for number in (6, 3):  # another order, another object
        for name, value in again.measure(again.cells[number]).items():
            np.testing.assert_array_equal(value, found[name][number])


def test_estimators_share_batches_and_students_share_data():
    experiment = one_step.best_by_width(
        **TINY | {"students": ("raw", "pretrained"), "estimators": ("ste", "cdg")}, largest_rate=1.0
    )
    before = measured(experiment)["before"].reshape(2, 2, 2)  # students, batches, estimators
    np.testing.assert_array_equal(before[..., 0], before[..., 1])
    assert len(np.unique(before)) == 4
    problem = COMPARISON.problems()
    raw, pretrained = (problem(experiment.cells[number]) for number in (0, 4))
    np.testing.assert_array_equal(raw.x, pretrained.x)
    np.testing.assert_array_equal(raw.y, pretrained.y)


def test_findings_of_both_experiments(tiny):
    experiment, found = tiny
    findings = experiment.conclude(found)
    assert [figure.title for figure in findings.figures] == ["Raw student, width 3"]
    assert [curve.label for curve in findings.figures[0].curves] == ["STE", "CDG", "NES 4", "smoothed"]
    numbers = json.loads(json.dumps(findings.numbers))["raw"]["3"]["cdg"]
    assert numbers["best_decrease"] == pytest.approx(found["best_decrease"][[1, 5]].mean())
    assert numbers["best_decrease_sd"] == pytest.approx(found["best_decrease"][[1, 5]].std(ddof=1))
    by_width = one_step_findings.against_width(experiment.cells, {"ste": "STE", "cdg": "CDG"}, found)
    share, curve = by_width.figures[1], (found["best_decrease"] / found["before"])[[0, 4]]
    assert share.curves[0].mean[0] == pytest.approx(curve.mean())
    assert len(by_width.tables) == 1 and len(by_width.tables[0].rows) == 2


@pytest.mark.parametrize(
    ("samples", "said"),
    [
        ({"ste": (3.0, 3.1), "cdg": (1.0, 1.1), "smoothed": (0.5, 0.6)}, "STE (3.05) lowers the loss most; smoothed"),
        ({"ste": (10.0, 8.0), "cdg": (8.0, 9.9), "smoothed": (0.5, 0.6)}, "STE (9) and CDG (8.95) lower the loss most"),
        ({"ste": (3.0, 1.0), "cdg": (1.0, 2.9)}, "no estimator is clearly ahead"),
        ({"ste": (3.0, 3.0)}, "STE (3) lowers the loss most."),
    ],
)
def test_a_sentence_claims_a_lead_only_where_batches_agree(samples, said):
    cells = contenders.grid(dim=(4,), student=("raw",), init=(0,), batch=(0, 1), estimator=tuple(samples))
    decrease = np.array([samples[cell["estimator"]][cell["batch"]] for cell in cells])
    titles = {label: contenders.FIXED[label].title for label in samples}
    found = {"best_decrease": decrease, "best_rate": decrease, "before": 2 * decrease}
    (sentence,) = one_step_findings.against_width(cells, titles, found).sentences
    assert said in sentence


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"estimators": ("ste", "cgd")}, "unknown estimator 'cgd'; did you mean 'cdg'"),
        ({"estimators": ("nes_501",)}, "population must be even"),
        ({"estimators": ()}, "estimators must hold at least one value"),
        ({"estimators": ("ste", "ste")}, "once"),
        ({"students": ("rough",)}, "unknown student 'rough'"),
        ({"dims": ()}, "dims must hold at least one value"),
        ({"dims": (0,)}, "dims must be at least 1"),
        ({"inits": 0}, "inits must be at least 1"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"sigma": 0.0}, "sigma must be positive"),
        ({"epsilon": -1.0}, "epsilon must be positive"),
        ({"normalise": "tensor"}, "did you mean 'tensors'"),
        ({"rates": (1.0, 0.1, 5)}, "rates must be"),
        ({"fine_rates": (0.1, 1.0)}, "fine_rates must be"),
        ({"rates": (0.1, 1.0, 0)}, "rates must be"),
    ],
)
def test_mistakes_are_told_before_anything_runs(change, message):
    with pytest.raises(UserError, match=message):
        one_step.loss_decrease(**{**TINY, **RATES, **change})


@pytest.mark.parametrize("small", [False, True])
@pytest.mark.parametrize("name", ["loss_decrease", "best_by_width", "cosine_and_cost", "sigma_epsilon"])
def test_configs_build(name, small):
    config = importlib.import_module(f"configs.lab.{name}").get_config()
    config.small = small
    experiment = make_experiment(config)
    assert experiment.name == name
    assert len(experiment.cells) > (1000 if not small and name != "sigma_epsilon" else 50)
