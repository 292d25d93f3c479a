"""Mistakes in the command line, the config and the data: one sentence, exit code 2, and nothing written."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny_run import Process, arguments, contents, images, launch, write_data

NAN = float("nan")
# What is given instead, and what the sentence says. The fields are written with __ for the dot.
WRONG_FIELDS = [
    ({"epoch": 3}, "unknown config field 'epoch'; did you mean 'epochs'?"),
    ({"space__nodez": 3}, "unknown config field 'space.nodez'; did you mean 'space.nodes'?"),
    ({"epochs": "many"}, "--config.epochs=many does not fit: the field holds a value of type int"),
    ({"data__name": "digit"}, "unknown dataset 'digit'; did you mean 'digits'?"),
    ({"method__name": "dart"}, "unknown method 'dart'; did you mean 'darts'?"),
    ({"method__name": "gdas"}, "the method 'gdas' needs draw, temperature, final_temperature, bare_gates; start from"),
    ({"method__name": "random"}, "the method 'random' has no hessian, logits_learning_rate"),
    (
        {"space__name": "fbnet"},
        "the space 'fbnet' has no channels, layers, nodes, operations, reduce_operations and needs",
    ),
    ({"cost__name": "size"}, "unknown cost 'size'; known are: bit_operations, latency, mult_adds, none, params."),
    (
        {"cost__penalty__name": "power"},
        "the penalty 'power' takes exponent, reference, but the config gives reference, weight; a config",
    ),
    ({"cost__penalty__name": "cube"}, "unknown penalty 'cube'"),
    ({"cost__penalty__weight": -1.0}, "cost.penalty.weight is -1.0, but has to be a number of at least 0."),
    (
        {"cost__name": "params", "cost__limit": 10.0},
        "cost.limit is 10 parameters, which no architecture meets: those of this space have 145 to 1",
    ),
    ({"cost__name": "latency"}, "cost.name is 'latency', which needs cost.table"),
    (
        {"cost__penalty__name": "reward_power"},
        "the penalty 'reward_power' is for rewards, and the method 'darts' minimi",
    ),
    ({"cost__limit": 5.0}, "cost.limit is 5.0, which has no effect with cost.name 'none'."),
    ({"cost__table": "here.csv"}, "cost.table is 'here.csv', which has no effect with cost.name 'none'."),
    ({"table__metric": "accuracy"}, "table.metric is 'accuracy', but table.path names no table."),
    ({"cost__name": "latency", "cost__table": "nowhere.csv"}, "the latency table 'nowhere.csv' cannot be read"),
    ({"monitor__skips": -1}, "monitor.skips must be at least 0, not -1."),
    ({"method__order": 3}, "method.order must be 1 or 2, not 3."),
    ({"method__hessian": "exact"}, "unknown hessian 'exact'; known are: autodiff, finite_differences."),
    ({"space__name": "dart"}, "unknown space 'dart'; did you mean 'darts'?"),
    ({"space__operations": ("none", "skip_conect")}, "unknown operation 'skip_conect'; did you mean 'skip_connect'?"),
    ({"space__operations": ("skip_connect",)}, "have to contain 'none'"),
    ({"data__path": "nowhere.npz"}, "the data file nowhere.npz does not exist"),
    ({"data__path": ""}, "data.name=npz needs the file's name"),
    ({"batch_size": 21}, "batch_size 21 is larger than the 20 examples of the split; use at most 20."),
    ({"batch_size": 5, "data__train_fraction": 0.9}, "batch_size 5 is larger than the 4 examples"),
    ({"retrain__batch_size": 41}, "retrain.batch_size 41 is larger than the 40 examples"),
    ({"devices": 3}, "batch_size 4 does not divide over 3 devices; the nearest that does is 3."),
    ({"devices": 99}, "devices is 99, but this machine has"),
    ({"retrain__auxiliary": True}, "the auxiliary head needs feature maps of at least 8x8 pixels"),
]
WRONG_NUMBERS = [
    ("epochs", 0, "at least 1"),
    ("batch_size", 0, "at least 1"),
    ("num_seeds", 0, "at least 1"),
    ("seed", -1, "from 0 to 2147483647"),
    ("seed", 2**31, "from 0 to 2147483647"),
    ("space__channels", 1, "at least 2"),
    ("space__layers", 0, "at least 1"),
    ("data__train_fraction", 1.5, "above 0 and below 1"),
    ("data__train_fraction", NAN, "above 0 and below 1"),
    ("data__crop_padding", -1, "at least 0"),
    ("method__weights_learning_rate", 0.0, "above 0 and finite"),
    ("method__weights_learning_rate", -0.1, "above 0 and finite"),
    ("method__logits_learning_rate", NAN, "above 0 and finite"),
    ("method__momentum", 1.0, "at least 0 and below 1"),
    ("method__weight_decay", -1.0, "at least 0"),
    ("method__clip", 0.0, "above 0 and finite"),
    ("retrain__learning_rate", float("inf"), "above 0 and finite"),
    ("retrain__drop_path", 1.0, "at least 0 and below 1"),
    ("monitor__curvature_growth", 0.5, "0 or above 1"),
    ("checkpoint__every_steps", -1, "at least 0"),
    ("checkpoint__every_seconds", -1.0, "at least 0"),
    ("checkpoint__keep", 0, "at least 1"),
]
X, Y = images(40)
WRONG_ARRAYS = [
    ({"x_train": X / 255}, "x_train must be uint8 [n, height, width, channels], not float64"),
    ({"x_train": X[:, 0, 0]}, "x_train must be uint8 [n, height, width, channels], but its shape is (40, 1)"),
    ({"x_test": X[:, :2]}, "the images of x_train have the shape (4, 4, 1) but those of x_test (2, 4, 1)"),
    ({"y_train": Y / 1.0}, "y_train must hold integer labels [n], not float64"),
    ({"y_train": Y[:-1]}, "y_train holds 39 labels for 40 images"),
    ({"y_train": Y - 1}, "y_train holds the negative label -1"),
    ({"y_train": 0 * Y}, "there is one class only, '0'; a classification needs at least two."),
    ({"class_names": np.array([b"a", b"\xff", b"c"])}, "class_names holds bytes that are not ASCII"),
    ({"y_test": np.full(12, 3)}, "y_test holds the label 3, but there are 3 classes"),
]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data") / "bright.npz")


def assert_refused(command, workdir, message, capsys):
    assert launch(command) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert message in printed.err
    assert re.search(r"[.?]\n$", printed.err)
    assert not workdir.exists()


@pytest.mark.parametrize(("fields", "message"), WRONG_FIELDS, ids=lambda value: str(value)[:40])
def test_a_wrong_field(fields, message, data, tmp_path, capsys):
    assert_refused(arguments(tmp_path / "run", data, **fields), tmp_path / "run", message, capsys)


@pytest.mark.parametrize(("field", "value", "limit"), WRONG_NUMBERS)
def test_a_number_out_of_its_limits(field, value, limit, data, tmp_path, capsys):
    message = f"{field.replace('__', '.')} must be {limit}, not {value}."
    assert_refused(arguments(tmp_path / "run", data, **{field: value}), tmp_path / "run", message, capsys)


@pytest.mark.parametrize(
    ("method", "field", "value", "message"),
    [
        ("gdas", "method__temperature", 0.0, "method.temperature must be above 0"),
        ("gdas", "method__weights_learning_rate", 0.0, "method.weights_learning_rate must be above 0"),
        ("random", "method__candidates", 9, "method.candidates is 9, which does not share 3 epochs equally"),
        ("darts_second_order", "method__hessian", "exact", "unknown hessian 'exact'"),
        ("gdas", "method__draw", "uniform", "unknown draw 'uniform'; known are: gumbel, multinomial."),
        ("snas", "method__credit", "reinforce", "unknown credit 'reinforce'; known are: pathwise, score."),
        (
            "pc_darts",
            "method__partial",
            3,
            "space.channels 2 does not divide into 3 parts; the nearest that does is 3.",
        ),
        (
            "p_darts",
            "method__stage_operations",
            "(3,2)",
            "method.stage_operations has 2 entries, but method.stage_layers",
        ),
        ("p_darts", "method__stage_dropout", "(0.0,1.0,0.1)", "method.stage_dropout[1] must be at least 0 and below 1"),
        ("composed", "method__sampler", "gumbel", "unknown sampler 'gumbel'; did you mean 'gumbel_softmax'?"),
        ("composed", "method__estimator", "reinforce", "unknown estimator 'reinforce'"),
        ("pc_darts", "method__warmup_epochs", 3, "method.warmup_epochs is 3, but the search has 3 epochs, of which"),
        ("off_policy", "cost__penalty__name", "relative", "the penalty 'relative' is for losses, and the method"),
        ("off_policy", "method__stage_exponents", "(0.1,0.1)", "method.stage_exponents[0] must be at most 0"),
        (
            "random",
            "cost__name",
            "params",
            "the method 'random' has no loss of the architecture that a cost could enter",
        ),
    ],
)
def test_a_wrong_setting_of_another_method(method, field, value, message, data, tmp_path, capsys):
    command = arguments(tmp_path / "run", data, method, **{field: value})
    assert_refused(command, tmp_path / "run", message, capsys)


@pytest.mark.parametrize(("arrays", "message"), WRONG_ARRAYS, ids=lambda value: str(value)[:20])
def test_wrong_arrays(arrays, message, tmp_path, capsys):
    path = write_data(tmp_path / "wrong.npz", **arrays)
    assert_refused(arguments(tmp_path / "run", path), tmp_path / "run", message, capsys)


def test_a_curvature_of_nothing(data, tmp_path, capsys):
    command = arguments(tmp_path / "run", data, "random", epochs=4, monitor__curvature=True)
    message = "the method 'random' has no mixture whose loss could have a curvature"
    assert_refused(command, tmp_path / "run", message, capsys)


AGREEING = {"p_darts": {"epochs": 6, "method__stage_operations": "(3,3,2)", "method__stage_layers": "(1,1,2)"}}
AGREEING["p_darts"] |= {"method__stage_channels": "(2,2,2)", "method__warmup_epochs": 1}


@pytest.mark.parametrize(
    ("method", "fields", "message"),
    [
        (
            "p_darts",
            {"cost__name": "params", "cost__limit": 1e6},
            "the most probable architecture within it is derived, so that method.skips (2) would be ignored",
        ),
        (
            "random_nas",
            {"monitor__skips": 1},
            "monitor.skips stops a search whose architecture is learned step by step, but",
        ),
    ],
)
def test_settings_that_each_choose_what_is_derived(method, fields, message, data, tmp_path, capsys):
    command = arguments(tmp_path / "run", data, method, **AGREEING.get(method, {}), **fields)
    assert_refused(command, tmp_path / "run", message, capsys)


TABLE = "# jaxnas latency table, version 1\n# units: ms\ncomponent,milliseconds,spread\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (TABLE + "conv 1x1 2x4x4 s1,0.1,\n", "lacks"),
        (
            "# family: fbnet\n" + TABLE + "conv 1x1 2x4x4 s1,0.1,\n",
            "is of the family 'fbnet', but the space is 'darts'",
        ),
        (TABLE + "max_pool_3x3 2x4x4 s1,-0.1,\n", "line 4 of the latency table "),
        (TABLE + "max_pool_3x3 2x4x4 s1,nan,\n", "line 4 of the latency table "),
        ("component,milliseconds\nmax_pool_3x3 2x4x4 s1,0.1\n", "does not say its version"),
    ],
    ids=["of other pieces", "another family's", "negative", "not a number", "no version"],
)
def test_a_wrong_latency_table(text, message, data, tmp_path, capsys):
    (tmp_path / "table.csv").write_text(text)
    fields = {"cost__name": "latency", "cost__table": tmp_path / "table.csv"}
    assert_refused(arguments(tmp_path / "run", data, **fields), tmp_path / "run", message, capsys)


def test_a_config_of_another_kind(data, tmp_path, capsys):
    command = arguments(tmp_path / "run", data)
    config = command[1].replace("search/darts_digits", "evaluate/darts_cifar10")
    workdir = tmp_path / "run"
    message = "the config lacks the field 'method'; this command takes configs of another kind."
    assert_refused([command[0], config, f"--workdir={workdir}"], workdir, message, capsys)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("config.epoch = 1", "unknown config field 'epoch'; did you mean 'epochs'?"),
        ("config.retrain.epoch = 1", "unknown config field 'retrain.epoch'; did you mean 'retrain.epochs'?"),
        ("del config.batch_size", "the config lacks the field 'batch_size', a whole number."),
        ("del config.retrain['cutout']", "the config lacks the field 'retrain.cutout', a whole number."),
        ("config.space = {}", "the config lacks the field 'space.name', a text."),
        ("config.method = 'darts'", "unknown config field 'method'; did you mean 'method.name'?"),
        ("config['batch_size'] = '64'", "batch_size must be a whole number, not '64'."),
        ("config['batch_size'] = True", "batch_size must be a whole number, not True."),
        ("config['batch_size'] = None", "batch_size must be a whole number, not None."),
        ("config['epochs'] = 2.5", "epochs must be a whole number, not 2.5."),
        ("config.data['path'] = __import__('pathlib').Path('a')", "data.path must be a text, not PosixPath('a')."),
    ],
)
def test_a_config_file_of_ones_own(line, message, tmp_path, capsys):
    """The types are those of the fields, whatever the file does; on the command line the parser sees to that."""
    source = "from configs.search.darts_digits import get_config as original\n\n\ndef get_config():\n"
    with_line = f"    config = original()\n    with config.ignore_type():\n        {line}\n    return config\n"
    (tmp_path / "mine.py").write_text(source + with_line)
    workdir = tmp_path / "run"
    command = [arguments(workdir, tmp_path)[0], f"--config={tmp_path / 'mine.py'}", f"--workdir={workdir}"]
    assert_refused(command, workdir, message, capsys)


def test_a_run_whose_config_is_gone(data, tmp_path, capsys):
    """Its checkpoints could be those of any other run."""
    for entry in ("checkpoints", "result.json"):
        folder = tmp_path / entry.removesuffix(".json")
        (folder / entry).mkdir(parents=True) if entry == "checkpoints" else folder.mkdir()
        if entry != "checkpoints":
            (folder / entry).write_text("{}")
        assert launch(arguments(folder, data)) == 2
        assert "holds a run but not its config.json; put that back" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["metrics.jsonl", "checkpoints"])
def test_an_entry_of_the_wrong_kind(name, data, tmp_path, capsys):
    (tmp_path / name).mkdir() if name == "metrics.jsonl" else (tmp_path / name).write_text("mine")
    before = contents(tmp_path)
    assert launch(arguments(tmp_path, data)) == 2
    assert re.search(r"' is a (file|folder) and has to be a (file|folder); move it away\.", capsys.readouterr().err)
    assert contents(tmp_path) == before


def test_a_platform_that_is_not_there(data, tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    with Process(arguments(tmp_path / "run", data)) as process:
        assert process.end() == (2, "")
        assert process.stderr.startswith("JAX cannot start on 'cuda': ")
        assert process.stderr.count("\n") == 1


def test_a_workdir_that_is_a_file(data, tmp_path, capsys):
    """Also one below a file, which the system reports in another way."""
    (tmp_path / "file").write_text("mine")
    before = contents(tmp_path)
    for workdir in (tmp_path / "file", tmp_path / "file" / "run"):
        assert launch(arguments(workdir, data)) == 2
        assert re.fullmatch(r"the workdir .* cannot be written: .* is not a folder; .*\n", capsys.readouterr().err)
    assert contents(tmp_path) == before


def test_a_workdir_that_cannot_be_made(data, capsys):
    """Where nobody can write, not even root."""
    parent = Path("/proc/sys" if sys.platform == "linux" else "/System")
    assert launch(arguments(parent / "run", data)) == 2
    assert re.fullmatch(
        r"the workdir '.*' cannot be written: .*; choose another --workdir\.\n", capsys.readouterr().err
    )


def test_from_a_shell(data, tmp_path):
    with Process(arguments(tmp_path / "run", data, batch_size=21)) as process:
        assert process.end() == (2, "")
        assert process.stderr == "batch_size 21 is larger than the 20 examples of the split; use at most 20.\n"
    assert not (tmp_path / "run").exists()


def test_a_damaged_config_of_a_run(data, tmp_path, capsys):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "config.json").write_text(json.dumps({"epochs": 3})[:-1])
    before = contents(tmp_path)
    assert launch(arguments(tmp_path, data)) == 2
    assert "config.json' is damaged: it is not valid JSON" in capsys.readouterr().err
    assert contents(tmp_path) == before
