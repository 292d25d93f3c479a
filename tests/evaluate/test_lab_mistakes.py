"""Mistakes in the configs of lab experiments, and measurements that are not finite. Nothing is measured here."""

import importlib
import json
import re

import numpy as np
import pytest

from jaxnas.core.errors import UserError
from jaxnas.evaluate.lab import agreement
from jaxnas.evaluate.lab.comparison import sweep_if_finite
from jaxnas.evaluate.lab.experiments import EXPERIMENTS
from jaxnas.lab_experiment import conclude, make_experiment, run_lab
from jaxnas.report.lab_page import LabRecord, write_lab_report
from jaxnas.train.workdir import write_json

NAN, INF = float("nan"), float("inf")
RANGE = (
    "must be (smallest, largest, how many), numbers with 0 < smallest ≤ largest and a whole number from 1 to "
    "1,000,000, not"
)
WIDE = "the estimator enumerated is for widths up to 10, not"
# Mistakes that any experiment with the setting refuses in the same words.
SETTINGS = [
    ("width", 0, "width must be at least 1, not 0."),
    ("width", "32", "width must be a whole number, not '32'."),
    ("dim", 0, "dim must be at least 1, not 0."),
    ("dims", (), "dims must hold at least one value, but it is empty."),
    ("dims", 8, "dims must be a tuple, not 8; write (8,) for one value."),
    ("dims", "8", "dims must be a tuple, not '8'; write ('8',) for one value."),
    ("dims", None, "dims must be a tuple, not None; write (None,) for one value."),
    ("dims", (8, -2), "dims must be at least 1, not -2."),
    ("dims", (8.5,), "dims must be a whole number, not 8.5."),
    ("dims", ([8],), "dims must be a whole number, not [8]."),
    ("dims", (4, 4), "every value of dims may be given once, but they are 4, 4."),
    ("layers", 1, "layers must be at least 2, not 1."),
    ("layers", 3.0, "layers must be a whole number, not 3.0."),
    ("inits", 0, "inits must be at least 1, not 0."),
    ("inits", True, "inits must be a whole number, not True."),
    ("batches", 2.5, "batches must be a whole number, not 2.5."),
    ("batches", None, "batches must be a whole number, not None."),
    ("batch_size", 0, "batch_size must be at least 1, not 0."),
    ("batch_size", "64", "batch_size must be a whole number, not '64'."),
    ("students", "raw", "students must be a tuple, not 'raw'; write ('raw',) for one value."),
    ("students", (), "students must hold at least one value, but it is empty."),
    ("students", ("pretraind",), "unknown student 'pretraind'; did you mean 'pretrained'?"),
    ("students", (["raw"],), "unknown student \"['raw']\"; did you mean 'raw'?"),
    ("pretraining", -1, "pretraining must be at least 1, not -1."),
    ("pretraining", 2.5, "pretraining must be a whole number, not 2.5."),
    ("estimators", "ste", "estimators must be a tuple, not 'ste'; write ('ste',) for one value."),
    ("estimators", (), "estimators must hold at least one value, but it is empty."),
    ("estimators", ("stee",), "unknown estimator 'stee'; did you mean 'ste'?"),
    ("estimators", (["cdg"],), "unknown estimator \"['cdg']\"; did you mean 'cdg'?"),
    ("estimators", ("nes_0",), "unknown estimator 'nes_0'; did you mean 'nes_500'?"),
    (
        "estimators",
        ("nes_3",),
        "population must be even, because antithetic samples come in pairs, not 3; 4 is the next.",
    ),
    ("estimators", ("cdg", "cdg"), "every value of estimators may be given once, but they are cdg, cdg."),
    ("sigma", 0, "sigma must be positive and finite, not 0; 0.1 is a usual value."),
    ("sigma", "0.1", "sigma must be a number, not '0.1'."),
    ("epsilon", NAN, "epsilon must be positive and finite, not nan; 0.1 is a usual value."),
    ("epsilon", False, "epsilon must be a number, not False."),
    ("scales", 0.1, "scales must be a tuple, not 0.1; write (0.1,) for one value."),
    ("scales", (), "scales must hold at least one value, but it is empty."),
    ("scales", (0.1, -0.1), "scales must be positive and finite, not -0.1; 0.1 is a usual value."),
    ("scales", ("0.1",), "scales must be a number, not '0.1'."),
    ("scales", (1, 1.0), "every value of scales may be given once, but they are 1, 1.0."),
    ("task", "digit", "unknown task 'digit'; did you mean 'digits'?"),
    ("reference", 0.0, "reference must be positive and finite, not 0.0; 0.1 is a usual value."),
    ("truth_draws", 0, "truth_draws must be at least 1, not 0."),
    ("repeats", 1.5, "repeats must be a whole number, not 1.5."),
    ("normalise", "tensor", "unknown normalisation 'tensor'; did you mean 'tensors'?"),
    ("normalise", [], "unknown normalisation '[]'; known are: none, tensors, whole."),
    ("largest_rate", INF, "largest_rate must be positive and finite, not inf; 1 is a usual value."),
    ("largest_rate", "1", "largest_rate must be a number, not '1'."),
    ("rates", (), f"rates {RANGE} ()."),
    ("rates", 0.1, f"rates {RANGE} 0.1."),
    ("rates", (0.1, 1.0), f"rates {RANGE} (0.1, 1.0)."),
    ("rates", (0.1, 1.0, 0), f"rates {RANGE} (0.1, 1.0, 0)."),
    ("rates", (0.1, 1.0, 2.5), f"rates {RANGE} (0.1, 1.0, 2.5)."),
    ("rates", (-0.1, 1.0, 5), f"rates {RANGE} (-0.1, 1.0, 5)."),
    ("rates", (1.0, 0.1, 5), f"rates {RANGE} (1.0, 0.1, 5)."),
    ("rates", ("0.1", 1.0, 5), f"rates {RANGE} ('0.1', 1.0, 5)."),
    ("rates", (0.1, NAN, 5), f"rates {RANGE} (0.1, nan, 5)."),
    ("fine_rates", (0.1, 1.0, 5, 6), f"fine_rates {RANGE} (0.1, 1.0, 5, 6)."),
    ("draws", 0, "draws must be a tuple, not 0; write (0,) for one value."),
    ("draws", (), "draws must hold at least one value, but it is empty."),
    ("draws", (1, 0), "draws must be at least 1, not 0."),
    ("draws", (1, 1.5), "draws must be a whole number, not 1.5."),
    ("draws", (2, 2), "every value of draws may be given once, but they are 2, 2."),
]
# Mistakes whose words, or whose being one, depend on the experiment.
OF_EXPERIMENTS = [
    ("quick_check", {"rate": 0.0}, "rate must be positive and finite, not 0.0; 0.1 is a usual value."),
    ("quick_check", {"rate": (0.1,)}, "rate must be a number, not (0.1,)."),
    ("training", {"rate": -0.1}, "rate must be positive and finite, not -0.1; 0.01 is a usual value."),
    ("training", {"steps": 0}, "steps must be at least 1, not 0."),
    ("training", {"steps": 5, "every": 2}, "steps must be a multiple of every, 2, not 5."),
    ("training", {"every": 2.0}, "every must be a whole number, not 2.0."),
    ("training", {"window": 0}, "window must be at least 1, not 0."),
    ("training", {"tolerance": "1 %"}, "tolerance must be a number, not '1 %'."),
    ("training", {"tolerance": 2}, "tolerance must be a share of the loss, from 0 to 1, not 2."),
    ("training", {"tolerance": NAN}, "tolerance must be a share of the loss, from 0 to 1, not nan."),
    ("training", {"switch_from": "stee"}, "unknown estimator 'stee'; did you mean 'ste'?"),
    ("training", {"switch_to": ["cdg"]}, "unknown estimator \"['cdg']\"; did you mean 'cdg'?"),
    ("training", {"dim": 11, "switch_to": "enumerated"}, f"{WIDE} 11; smoothed is for any."),
    ("loss_decrease", {"dims": (4, 16), "estimators": ("enumerated",)}, f"{WIDE} 16; smoothed is for any."),
    ("cosine_and_cost", {"dims": (16,), "estimators": ("enumerated",)}, f"{WIDE} 16; smoothed is for any."),
    ("sigma_epsilon", {"dims": (16,), "estimators": ("enumerated",)}, f"{WIDE} 16; smoothed is for any."),
    (
        "sigma_epsilon",
        {"estimators": ("sr_ste",)},
        "estimators must have a scale to vary, but 'sr_ste' has neither sigma nor epsilon.",
    ),
    ("quick_check", {"dimms": (4,)}, "unknown setting of quick_check 'dimms'; did you mean 'dims'?"),
]
# What is done to the config itself.
OF_CONFIGS = [
    ({"experiment": "quick_chek"}, "unknown experiment 'quick_chek'; did you mean 'quick_check'?"),
    ({"experiment": ["quick_check"]}, "experiment must be a text, not ['quick_check']."),
    ({"question": 1}, "question must be a text, not 1."),
    ({"seed": 1.5}, "seed must be a whole number, not 1.5."),
    ({"seed": True}, "seed must be a whole number, not True."),
    ({"seed": -1}, "seed must be from 0 to 2147483647, not -1."),
    ({"small": 1}, "small must be True or False, not 1."),
    ({"small": "yes"}, "small must be True or False, not 'yes'."),
    ({"settings": 3}, "settings must be a group of fields, not 3."),
    ({"settings": None}, "settings must be a group of fields, not None."),
    ({"when_small": (4,)}, "when_small must be a group of fields, not (4,)."),
    ({"when_small": {"dimms": (4,)}}, "unknown setting of quick_check 'dimms'; did you mean 'dims'?"),
    ({"when_small": {"dims": {1, 2}}}, "the config cannot be written as JSON: <class 'set'> is not JSON serializable."),
    ({"when_small": {"dims": 4}, "small": True}, "dims must be a tuple, not 4; write (4,) for one value."),
    ({"checkpoint": 60}, "checkpoint must be a group of fields, not 60."),
    ({"checkpoint": {"keep": 2}}, "the config lacks the field 'checkpoint.every_seconds', a number."),
    ({"checkpoint": {"every_seconds": -1.0, "keep": 2}}, "checkpoint.every_seconds must be at least 0, not -1.0."),
    ({"checkpoint": {"every_seconds": NAN, "keep": 2}}, "checkpoint.every_seconds must be at least 0, not nan."),
    ({"checkpoint": {"every_seconds": 60.0, "keep": 0}}, "checkpoint.keep must be at least 1, not 0."),
    ({"checkpoint": {"every_seconds": 60.0, "keep": 1.5}}, "checkpoint.keep must be a whole number, not 1.5."),
    ({"sed": 1}, "unknown config field 'sed'; did you mean 'seed'?"),
]
SIGNS = sorted(set(EXPERIMENTS) - {"real_layer"})  # the experiments on sign networks, which share their settings


def config_of(name):
    return importlib.import_module(f"configs.lab.{name}").get_config()


def assert_refused(config, message, workdir):
    with pytest.raises(UserError) as caught:
        run_lab(config, workdir)
    assert str(caught.value) == message
    assert not workdir.exists()


@pytest.mark.parametrize(
    ("name", "setting", "value", "message"),
    [(name, *row) for row in SETTINGS for name in SIGNS if row[0] in config_of(name).settings],
    ids=lambda value: str(value)[:40],
)
def test_a_wrong_setting(name, setting, value, message, tmp_path):
    config = config_of(name)
    config.settings = dict(config.settings.items()) | {setting: value}
    assert_refused(config, message, tmp_path / "run")


def test_every_mistake_is_made_in_some_experiment():
    assert {setting for setting, *_ in SETTINGS} <= {one for name in SIGNS for one in config_of(name).settings}


@pytest.mark.parametrize(("name", "changed", "message"), OF_EXPERIMENTS, ids=lambda value: str(value)[:40])
def test_a_wrong_setting_of_one_experiment(name, changed, message, tmp_path):
    config = config_of(name)
    config.settings = dict(config.settings.items()) | changed
    assert_refused(config, message, tmp_path / "run")


@pytest.mark.parametrize(("changed", "message"), OF_CONFIGS, ids=lambda value: str(value)[:40])
def test_a_wrong_config(changed, message, tmp_path):
    config = config_of("quick_check")
    with config.unlocked(), config.ignore_type():
        for name, value in changed.items():
            config[name] = value
    assert_refused(config, message, tmp_path / "run")


@pytest.mark.parametrize("field", ["experiment", "question", "seed", "small", "settings", "when_small", "checkpoint"])
def test_a_config_without_a_field(field, tmp_path):
    config = config_of("training")
    with config.unlocked():
        del config[field]
    with pytest.raises(UserError, match=f"^the config lacks the field '{field}', "):
        run_lab(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def made_up(experiment, spoil):
    """Measurements of every cell, all positive, but spoil(cell's number, cell) where that is not None."""
    draw = np.random.default_rng(0)
    measured = {
        name: draw.uniform(0.1, 1, (len(experiment.cells), *shape)) for name, shape in experiment.shapes.items()
    }
    for number, cell in enumerate(experiment.cells):
        value = spoil(number, cell)
        for name in set(measured) - {"accuracy"} if value is not None else ():  # a share of images is always finite
            measured[name][number] = value
    return measured


SPOILS = {
    "all": lambda number, cell: NAN,
    "one": lambda number, cell: NAN if number == 0 else None,
    "an estimator's": lambda number, cell: NAN if cell.get("estimator") in ("cdg", "switch") else None,
    "infinite": lambda number, cell: (INF, -INF, None)[number % 3],
}


@pytest.mark.parametrize("spoil", SPOILS)
@pytest.mark.parametrize("name", sorted(EXPERIMENTS))
def test_numbers_that_are_not_finite(name, spoil, tmp_path):
    """The result is JSON, the report is written, and no sentence tells of NaN."""
    config = config_of(name)
    config.small = True
    experiment = make_experiment(config)
    measured = made_up(experiment, SPOILS[spoil])
    findings = conclude(experiment, measured)
    write_json(tmp_path / "result.json", findings._asdict())

    def refuse(constant):
        raise AssertionError(constant)

    json.loads((tmp_path / "result.json").read_text(), parse_constant=refuse)
    record = LabRecord(name, json.loads(config.to_json()), findings, 1.0, {})
    write_lab_report(tmp_path / "report.html", record)
    assert findings.sentences
    assert not [sentence for sentence in findings.sentences if re.search(r"\b(nan|inf)\b", sentence)]


def test_who_is_not_finite_is_named_and_left_out():
    experiment = make_experiment(config_of("training"))
    sentences = conclude(experiment, made_up(experiment, SPOILS["an estimator's"])).sentences
    assert sentences[0].endswith(" on average. Not finite, and left out: CDG; STE, then NES 500.")
    experiment = make_experiment(config_of("stochastic_rounding"))
    found = conclude(experiment, made_up(experiment, SPOILS["one"]))
    assert [found.numbers[student]["the STE lowers the loss"]["of"] for student in ("raw", "pretrained")] == [99, 100]
    left_out = "On the raw student 1 of 100 batches gave losses that are not finite, and are left out."
    assert found.sentences[2:] == (left_out,)


def test_a_gradient_that_is_not_finite_gives_nan():
    params = ({"kernel": np.ones((2, 2))}, {"kernel": np.ones((2, 1))})
    gradient = ({"kernel": np.full((2, 2), INF)}, {"kernel": np.ones((2, 1))})
    swept = sweep_if_finite(params, gradient, np.ones((3, 2)), np.ones((3, 1)), [0.1, 1.0])
    assert swept.losses.shape == (2,) and np.isnan([*swept.losses, swept.best_rate, swept.best_loss]).all()
    np.testing.assert_array_equal(np.isnan(agreement.cosines(gradient, params)), [True, False, True])


def test_rates_may_be_tiny_and_are_the_same_but_once():
    config = config_of("loss_decrease")
    config.settings = dict(config.settings.items()) | {"rates": (1e-14, 1.0, 15), "fine_rates": (0.1, 1.0, 10)}
    assert make_experiment(config).shapes["decrease"] == (15 + 8,)  # 0.1 and 1 are in both
