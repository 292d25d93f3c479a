"""Cosines between gradients and truths, what they cost, and how they depend on σ and ε."""

import json

import numpy as np
import pytest

from jaxnas.core.errors import UserError
from jaxnas.evaluate.lab import agreement, agreement_findings, contenders

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
    "truth_draws": 200,
}
COST = {"estimators": ("cdg", "smoothed", "enumerated"), "sigma": 0.3, "epsilon": 0.1, "repeats": 2}
SCALE = {
    "estimators": ("cdg", "enumerated"),
    "scales": (0.3, 1.0),
    "reference": 0.3,
    "normalise": "tensors",
    "largest_rate": 1.0,
}


def measured(experiment):
    cells = [experiment.measure(cell) for cell in experiment.cells]
    assert {name: values.shape for name, values in cells[0].items()} == dict(experiment.shapes)
    return {name: np.stack([cell[name] for cell in cells]) for name in experiment.shapes}


@pytest.fixture(scope="module")
def cost():
    experiment = agreement.cosine_and_cost(**TINY, **COST)
    return experiment, measured(experiment)


@pytest.fixture(scope="module")
def scale():
    experiment = agreement.sigma_epsilon(**TINY, **SCALE)
    return experiment, measured(experiment)


def test_cosines_of_vectors():
    one = ({"kernel": np.array([[3.0]]), "bias": np.array([4.0])}, {"kernel": np.array([[0.0]])})
    other = ({"kernel": np.array([[4.0]]), "bias": np.array([3.0])}, {"kernel": np.array([[5.0]])})
    negative = tuple({name: -leaf for name, leaf in layer.items()} for layer in one)
    np.testing.assert_allclose(agreement.cosines(one, one), [1, 0, 1])
    np.testing.assert_allclose(agreement.cosines(one, negative), [-1, 0, -1])
    np.testing.assert_allclose(agreement.cosines(one, other), [24 / 25, 0, 24 / (5 * 50**0.5)])


def test_cdg_agrees_with_itself_and_smoothed_with_enumeration(cost):
    experiment, found = cost
    assert experiment.cells[0]["estimator"] == "cdg"
    np.testing.assert_allclose(found["to_cdg"][[0, 3]], 1, rtol=1e-6)
    assert (found["to_smoothed"][[2, 5]] > 0.995).all()  # enumeration is exact; the truth here has 200 draws
    assert (np.abs(found["to_cdg"]) <= 1 + 1e-9).all()
    assert (found["seconds"] > 0).all()


def test_what_is_not_a_time_is_deterministic(cost):
    experiment, found = cost
    again = agreement.cosine_and_cost(**TINY, **COST).measure(experiment.cells[4])
    np.testing.assert_array_equal(again["to_cdg"], found["to_cdg"][4])
    np.testing.assert_array_equal(again["to_smoothed"], found["to_smoothed"][4])


def test_the_enumerated_gradient_is_its_own_truth_at_every_scale(scale):
    experiment, found = scale
    for number, cell in enumerate(experiment.cells):
        if cell["estimator"] == "enumerated":
            assert (found["to_own"][number] > 0.995).all()
        if cell["scale"] == SCALE["reference"]:
            np.testing.assert_array_equal(found["to_own"][number], found["to_reference"][number])
    far = [n for n, cell in enumerate(experiment.cells) if cell["scale"] == 1.0 and cell["estimator"] == "enumerated"]
    assert (found["to_reference"][far, 0] < found["to_own"][far, 0]).all()
    assert (found["best_decrease"] >= -1e-12).all()


def test_findings(cost, scale):
    experiment, found = cost
    findings = experiment.conclude(found)
    marks = findings.figures[0].curves
    assert [curve.label for curve in marks] == ["CDG", "smoothed", "enumerated"] and all(c.marks for c in marks)
    assert marks[0].x[0] == pytest.approx(np.median(found["seconds"][[0, 3]]))
    numbers = json.loads(json.dumps(findings.numbers))
    assert numbers["raw"]["3"]["cdg"]["to_cdg"]["mean"] == pytest.approx([1, 1, 1, 1])
    experiment, found = scale
    findings = experiment.conclude(found)
    np.testing.assert_array_equal(findings.figures[0].curves[0].x, SCALE["scales"])
    assert "1.0" in json.loads(json.dumps(findings.numbers))["raw"]["3"]
    assert len(findings.sentences) == 2


def test_the_advice_names_only_what_nothing_beats():
    titles = {label: label for label in ("cheap", "poor", "dear")}
    cells = contenders.grid(dim=(4,), student=("raw",), init=(0,), batch=(0,), estimator=tuple(titles))
    worth = np.array([0.5, 0.4, 0.9])[:, None]
    found = {"to_cdg": worth, "to_smoothed": worth, "seconds": np.array([1.0, 2.0, 3.0])}
    (advice,) = agreement_findings.cosine_against_cost(cells, titles, found).sentences
    assert "cheap (0.50 in 1 s), then dear (0.90 in 3 s); every other" in advice
    assert "poor" not in advice


@pytest.mark.parametrize(
    ("factory", "change", "message"),
    [
        (agreement.cosine_and_cost, {"repeats": 0}, "repeats must be at least 1"),
        (agreement.cosine_and_cost, {"truth_draws": 0}, "truth_draws must be at least 1"),
        (agreement.cosine_and_cost, {"estimators": ("nes_3",)}, "population must be even"),
        (agreement.sigma_epsilon, {"estimators": ("ste",)}, "'ste' has neither sigma nor epsilon"),
        (agreement.sigma_epsilon, {"scales": (0.1, 0.0)}, "scales must be positive"),
        (agreement.sigma_epsilon, {"scales": ()}, "scales must hold at least one value"),
        (agreement.sigma_epsilon, {"largest_rate": 0.0}, "largest_rate must be positive"),
        (agreement.sigma_epsilon, {"normalise": "all"}, "unknown normalisation 'all'"),
    ],
)
def test_mistakes_are_told_before_anything_runs(factory, change, message):
    settings = COST if factory is agreement.cosine_and_cost else SCALE
    with pytest.raises(UserError, match=message):
        factory(**{**TINY, **settings, **change})
