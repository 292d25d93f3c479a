"""Requests to a finished search: what they answer, that nothing that befalls them changes it, and mistakes."""

import functools
import importlib
import itertools
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from tiny_run import ROOT, contents, images, launch, write_data

from jaxnas import specialization_plan as specialization_plan_module
from jaxnas.core.errors import Stopped, UserError
from jaxnas.costs.latency import LatencyTable, Timing, latency_cost, read_latency_table, write_latency_table
from jaxnas.costs.terms import components, mult_adds_cost
from jaxnas.costs.timing import device_name
from jaxnas.evaluate.export import load_exported
from jaxnas.experiment import search
from jaxnas.networks.families import FAMILIES
from jaxnas.networks.family import Images
from jaxnas.report.specialization import SpecializationRecord, render_specialization
from jaxnas.search.predictor import predict
from jaxnas.spaces.space import encode
from jaxnas.specialization import specialize
from jaxnas.specialization_plan import finished_search, specialization_plan
from jaxnas.train.signals import StopRequest

LAUNCHER = ROOT / "launch/specialize.py"
SPACE = {
    **{"stem": 4, "stem_stride": 1, "first": 0, "widths": (4,), "strides": (1,), "squeeze": (False,)},
    **{"hard_swish": (False,), "final": 4, "head": 4, "kernels": (3, 5), "expansions": (1.0, 2.0, 3.0)},
    **{"depths": (1, 2), "resolutions": (3, 4), "divisor": 1},
}
IMAGES = Images(4, 4, 1, 3)
FAMILY = FAMILIES["elastic"](IMAGES, **SPACE)
PREDICTION = {
    **{"measured": 12, "held_out": 0.25, "predictor_hidden": (8,), "predictor_steps": 20, "predictor_batch": 4},
    **{"rounds": 2, "population": 4, "parents": 2, "mutants": 4, "crossovers": 0, "finalists": 1, "calibrate": 4},
}
EVOLUTION = {"rounds": 12, "population": 12, "parents": 4, "mutants": 8, "crossovers": 0, "finalists": 2}
CHEAP, FAST = 5000, 0.04  # mult-adds, and milliseconds


def search_config(data):
    config = importlib.import_module("configs.search.predicted_digits").get_config()
    config.space = {"name": "elastic", **SPACE}
    config.method.update(PREDICTION)
    config.data.update({"name": "npz", "path": str(data)})
    config.update({"epochs": 2, "batch_size": 4, "num_seeds": 2})
    config.cost.update({"name": "none", "limit": 0.0})
    config.retrain.update({"epochs": 0})
    return config


def write_table(folder):
    """A latency table of the present device, with numbers of our own."""
    rng = np.random.default_rng(0)
    rows = {one: Timing(float(rng.uniform(0.002, 0.02))) for one in components(FAMILY.terms())}
    about = {"device": device_name(), "family": "elastic", "batch_size": "2"}
    write_latency_table(folder / "here.csv", LatencyTable(rows, about))


def config_of(folder, **fields):
    """The config of a file with fields replaced, with __ for the dot; folder: of the search and the tables."""
    config = importlib.import_module("configs.specialize.digits").get_config()
    config.search = str(folder / "run")
    config.evolution.update(EVOLUTION)
    config.front.update({"points": 3, "rounds": 12, "population": 24})
    config.update({"calibration": 8, "repeats": 1})
    config.requests = {
        "cheap": {"cost": "mult_adds", "limit": CHEAP, "table": ""},
        "here": {"cost": "latency", "limit": FAST, "table": str(folder / "here.csv")},
    }
    for name, value in fields.items():
        *groups, last = name.split("__")
        functools.reduce(lambda place, group: place[group], groups, config)[last] = value
    return config


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with latency tables, and the workdir of a finished search of two seeds, "run"."""
    folder = tmp_path_factory.mktemp("searched")
    search(search_config(write_data(folder / "bright.npz")), folder / "run")
    write_table(folder)
    return folder


def test_a_search_tells_of_its_predictor(folder):
    result = json.loads((folder / "run/result.json").read_text())
    assert {"rmse", "kendall", "spearman", "finalists_predicted"} <= set(result["per_seed"][1]["predictor"])
    assert result["predictor"]["rmse"] > 0
    assert "Kendall" in (folder / "run/report.html").read_text()


@pytest.fixture(scope="module")
def finished(folder):
    """The workdir of a specialization that nothing befell."""
    specialize(config_of(folder), folder / "answers")
    return folder / "answers"


@pytest.fixture(scope="module")
def found(folder):
    return finished_search(str(folder / "run"))


def result_of(workdir):
    """What does not depend on the machine's speed."""
    result = json.loads((workdir / "result.json").read_text())
    for one in result["requests"].values():
        del one["seconds"], one["cost"]["measured"]
    return result


@pytest.fixture(scope="module")
def everything(found):
    """All architectures {part: [count, choices]} that differ in what they compute, and their predicted accuracies."""
    shapes = FAMILY.space.shapes
    spans = [range(options) for choices, options in shapes.values() for _ in range(choices)]
    rows = np.asarray(list(itertools.product(*spans)), np.int32)
    ends = np.cumsum([choices for choices, _ in shapes.values()])[:-1]
    architectures = dict(zip(shapes, np.split(rows, ends, axis=1), strict=True))
    matters = jax.vmap(FAMILY.space.relevant)(architectures)
    settled = np.all([np.all(matters[part] | (rows == 0), axis=1) for part, rows in architectures.items()], axis=0)
    architectures = {part: jnp.asarray(rows[settled]) for part, rows in architectures.items()}
    return architectures, np.asarray(predict(found.known.predictor, FAMILY.space, architectures))


def cost_of(folder, name):
    if name == "cheap":
        return mult_adds_cost(FAMILY, IMAGES)
    return latency_cost(FAMILY, IMAGES, read_latency_table(folder / f"{name}.csv"))


def costs(folder, name, architectures):
    cost = cost_of(folder, name)
    return np.asarray(jax.jit(jax.vmap(lambda one: cost(encode(FAMILY.space, one))))(architectures))


def number_of(everything, text):
    """Which of all architectures a text is."""
    one = FAMILY.space.parse(text)
    return int(np.argmax(np.all([np.all(everything[part] == one[part], axis=1) for part in one], axis=0)))


@pytest.mark.parametrize("label", ["cheap", "here"])
def test_a_request_is_answered_by_the_best_prediction_within_its_limit(folder, finished, everything, label):
    """One of the two best of all, whichever the shared weights prefer."""
    architectures, predicted = everything
    answer = json.loads((finished / "result.json").read_text())["requests"][label]
    number = number_of(architectures, answer["architecture"])
    spent = costs(folder, label, architectures)
    limit = CHEAP if label == "cheap" else FAST
    assert spent[number] <= limit == answer["cost"]["limit"]
    np.testing.assert_allclose(answer["cost"]["predicted"], spent[number], rtol=1e-5)
    np.testing.assert_allclose(answer["accuracy"]["predicted"], predicted[number], rtol=1e-5)
    assert predicted[number] >= np.sort(predicted[spent <= limit])[-2] - 1e-6
    assert 0.1 < np.mean(spent <= limit) < 0.9
    # Only what a table of this machine was asked about is timed.
    assert (answer["cost"]["measured"] is not None) == (label == "here")


@pytest.mark.parametrize("label", ["cheap", "here"])
def test_a_front_is_that_of_all_architectures(folder, finished, everything, label):
    architectures, predicted = everything
    front = json.loads((finished / "result.json").read_text())["fronts"][label]
    spent = costs(folder, label, architectures)
    assert len(front["cost"]) == 3 and sorted(set(front["cost"])) == front["cost"]
    assert front["device"] == {"cheap": "mult_adds", "here": device_name()}[label]
    for cost, accuracy, text in zip(front["cost"], front["predicted"], front["architectures"], strict=True):
        number = number_of(architectures, text)
        np.testing.assert_allclose((cost, accuracy), (spent[number], predicted[number]), rtol=1e-5)
        dominating = (spent <= spent[number]) & (predicted > predicted[number] + 1e-6)
        assert not np.any(dominating)


def test_the_networks_do_what_is_told_of_them(finished, found):
    """The exported program, asked of all images, is right as often as the result says."""
    result = json.loads((finished / "result.json").read_text())
    data, rows = found.made.dataset, np.asarray(found.made.halves[1])
    splits = {"test": (data.x_test, data.y_test), "valid": (data.x_train[rows], data.y_train[rows])}
    for label, answer in result["requests"].items():
        exported = load_exported(finished / "networks" / label)
        assert exported.description["architecture"] == answer["architecture"]
        for name, (pictures, labels) in splits.items():
            right = np.mean(np.argmax(exported.answer(pictures), axis=1) == labels)
            np.testing.assert_allclose(answer["accuracy"][name], right, rtol=1e-6)
    quality = result["predictor"]
    held_out = found.known.held_out
    assert (quality["measured"], len(held_out.counts)) == (12, 3)
    np.testing.assert_allclose(quality["held_out"]["predicted"], held_out.predicted, rtol=1e-6)
    np.testing.assert_allclose(quality["rmse"], np.sqrt(np.mean((held_out.predicted - held_out.measured) ** 2)), 1e-5)
    text = (finished / "report.html").read_text()
    assert all(label in text for label in (*result["requests"], "Fronts", "Predicted against measured"))


def test_a_finished_one_is_not_run_again_and_a_stopped_one_goes_on(folder, finished, tmp_path, monkeypatch):
    before = contents(finished)
    specialize(config_of(folder), finished)
    assert contents(finished) == before
    stopped = shutil.copytree(finished, tmp_path / "stopped")
    for name in ("result.json", "report.html", "checkpoints/requests/here.json"):
        (stopped / name).unlink()
    shutil.rmtree(stopped / "networks/here")
    with monkeypatch.context() as patched:
        patched.setattr(StopRequest, "requested", "SIGTERM", raising=False)
        patched.setattr(StopRequest, "__init__", lambda self, unit: None)
        patched.setattr(StopRequest, "__enter__", lambda self: self)
        patched.setattr(StopRequest, "__exit__", lambda self, *error: None)
        with pytest.raises(Stopped, match="SIGTERM: stopped before requests/here, saved"):
            specialize(config_of(folder), stopped)
    assert not (stopped / "result.json").exists()
    specialize(config_of(folder), stopped)
    assert result_of(stopped) == result_of(finished)
    assert contents(stopped / "networks") == contents(finished / "networks")
    with pytest.raises(UserError, match=r"config differs .*requests.cheap.limit"):
        specialize(config_of(folder, requests__cheap__limit=6000), stopped)


def test_the_command_line(folder, finished, tmp_path, capsys):
    """Of a finished one: it tells what was found; its networks classify images."""
    config = tmp_path / "own.py"
    lines = ("from pathlib import Path", "from tests.test_specialization import config_of")
    config.write_text("\n".join([*lines, f"def get_config(): return config_of(Path({str(folder)!r}))"]))
    assert launch([str(LAUNCHER), f"--config={config}", f"--workdir={finished}"]) == 0
    told = capsys.readouterr().out
    assert "cheap" in told and "of at most 0.04 ms" in told and str(finished / "networks" / "here") in told
    Image.fromarray(images(1)[0][0, :, :, 0]).save(tmp_path / "one.png")
    predicts = [
        str(ROOT / "launch/predict.py"),
        f"--model={finished / 'networks/here'}",
        f"--images={tmp_path}/one.png",
    ]
    assert launch(predicts) == 0
    assert capsys.readouterr().out.startswith(f"{tmp_path}/one.png")


def test_a_report_shows_the_fronts_of_several_devices_in_one_figure(finished):
    """One figure for every unit."""
    result = json.loads((finished / "result.json").read_text())
    result["fronts"]["there"] = result["fronts"]["here"] | {"device": "tpu <v9>"}
    page = render_specialization(SpecializationRecord({"seed": 0}, result))
    assert page.count("<h3>Accuracy against") == 2
    figure = page[page.index("<h3>Accuracy against ms") :]
    figure = figure[: figure.index("</figure>")]
    fronts = (f"{device_name()} (here)", "tpu &lt;v9&gt; (there)")
    assert all(f"{front}, {kind}" in figure for front in fronts for kind in ("predicted", "measured"))
    assert "tpu &lt;v9&gt;" in page and "tpu <v9>" not in page
    without = render_specialization(SpecializationRecord({"seed": 0}, result | {"fronts": {}}))
    assert "Fronts" not in without and "cheap" in without


@pytest.fixture
def known_search(found, monkeypatch):
    """Spares reading the search."""
    monkeypatch.setattr(specialization_plan_module, "finished_search", lambda workdir, data_path: found)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"requests__cheap__limit": 100},
            "cheap.limit is 100 mult-adds, which no architecture meets: .* 1,108 to 13,532",
        ),
        (
            {"requests__cheap__limit": 20_000},
            "cheap.limit is 20,000 mult-adds, which every architecture meets: .* take at most 13,532",
        ),
        ({"requests__cheap__limit": 0}, "requests.cheap.limit must be above 0 and finite, not 0"),
        ({"requests__cheap__cost": "mult_ads"}, "requests.cheap: unknown cost 'mult_ads'; did you mean 'mult_adds'"),
        ({"requests__cheap__cost": "none"}, "cheap.cost is 'none', but a request needs a cost, such as 'latency'"),
        ({"requests__cheap__cost": "latency"}, "'latency', which needs requests.cheap.table, a file as launch/latency"),
        ({"requests__cheap__table": "here.csv"}, "table is 'here.csv', which has no effect with the cost 'mult_adds'"),
        ({"requests__here__table": "nowhere.csv"}, "requests.here: the latency table 'nowhere.csv' cannot be read"),
        ({"requests": {}}, "the config has no requests; give requests.LABEL.cost"),
        ({"requests__cheap__units": 3}, "unknown config field 'requests.cheap.units'"),
        ({"requests__a b": {"cost": "params", "limit": 1, "table": ""}}, "the label 'a b' names a folder"),
        ({"requests": {"cheap": 3}}, "requests.cheap must be a group of fields, not 3"),
        ({"calibration": 21}, "calibration is 21, but the weights learned from 20 images; take fewer"),
        ({"evolution__parents": 13}, "evolution: population is 12, but has to be at least parents, which is 13"),
        ({"evolution__finalists": 5}, "evolution.finalists is 5, but evolution keeps the 4 best"),
        ({"front__population": 1}, "front: population is 1, but has to be at least the size of a tournament"),
    ],
)
def test_mistakes_are_told_before_any_work_starts(folder, known_search, tmp_path, fields, message):
    with pytest.raises(UserError, match=message):
        specialize(config_of(folder, **fields), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_tables_have_to_be_of_this_space_and_these_images(folder, known_search, tmp_path):
    for family, size, message in (
        (FAMILIES["elastic"](Images(4, 4, 3, 3), **SPACE), 3, "lacks the component 'stem 1x3x3 .* images of 4x4x1"),
        (FAMILY._replace(space=FAMILY.space._replace(name="proxylessnas")), 1, "of the family 'proxylessnas', but the"),
    ):
        rows = dict.fromkeys(components(family.terms()), Timing(1.0))
        write_latency_table(tmp_path / f"{size}.csv", LatencyTable(rows, {"family": family.space.name}))
        with pytest.raises(UserError, match=message):
            specialization_plan(config_of(folder, requests__here__table=str(tmp_path / f"{size}.csv")))


def test_a_predictor_of_another_space(folder, found, monkeypatch):
    space = found.made.space._replace(name="wide")
    other = found._replace(made=found.made._replace(family=found.made.family._replace(space=space)))
    monkeypatch.setattr(
        specialization_plan_module, "finished_search", lambda workdir, data_path: other if workdir == "other" else found
    )
    with pytest.raises(UserError, match="trained on the space 'wide', but is applied to 'elastic', which is another"):
        specialization_plan(config_of(folder, predictor="other"))


def test_the_search_has_to_be_one_that_ends_with_a_predictor(folder, tmp_path):
    for workdir, message in (
        (tmp_path / "nowhere", "there is no finished search in '.*nowhere'; give the --workdir of one"),
        (folder / "answers", "holds a run of another kind"),
    ):
        with pytest.raises(UserError, match=message):
            finished_search(str(workdir))
    unpredicted = tmp_path / "spos"
    unpredicted.mkdir()
    config = json.loads((folder / "run/config.json").read_text())
    spos = importlib.import_module("configs.search.common").spos().to_dict()
    config["method"] = spos | {"calibrate": 4}
    (unpredicted / "config.json").write_text(json.dumps(config))
    (unpredicted / "result.json").write_text('{"selected_seed": 0}')
    with pytest.raises(UserError, match="is of the method 'spos', which trains no predictor; take one of the method"):
        finished_search(str(unpredicted))
    write_data(tmp_path / "others.npz", seed=5)
    with pytest.raises(UserError, match=r"the data 'others' are not those that the search in .* was run on"):
        finished_search(str(folder / "run"), str(tmp_path / "others.npz"))
