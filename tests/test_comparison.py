"""Comparing methods: what is written, going on after a stop, the same budget for all, and mistakes."""

import importlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from ml_collections import ConfigDict

from configs.compare.common import chain_methods, comparison
from configs.search import common, spaces
from jaxnas import comparison as module
from jaxnas import examination
from jaxnas.comparison import RANDOM_ROW, compare, searches
from jaxnas.core.errors import Stopped, UserError
from jaxnas.limits import check_fields
from tests.tiny_run import write_data

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = sorted(path.stem for path in (ROOT / "configs" / "compare").glob("*.py") if path.stem != "common")
SPACE = {**spaces.NAS_BENCH_MACRO_8, "stem": 4, "widths": (4,), "depths": (2,), "strides": (2,), "head": 8}
SPACE |= {"candidates": ("identity", "mbconv_k3_e3")}
TRUE = {"00": 10.0, "01": 40.0, "10": 30.0, "11": 20.0}


def tiny(folder, **base):
    """Two epochs of GDAS and of random search among four chains, with a table of what they reach."""
    config = common.digits(SPACE)
    config.update({"epochs": 2, "batch_size": 4, "retrain": {"epochs": 0}})
    config.data.name, config.data.path = "npz", str(folder / "data.npz")
    config.update(base)
    methods = {name: one for name, one in chain_methods(2, 2).items() if name in ("gdas", "random")}
    compared = comparison("Which is best?", config, methods)
    lines = [f"{text},{value}" for text, value in TRUE.items()]
    (folder / "table.csv").write_text("\n".join(["architecture,accuracy", *lines]))
    compared.table.update({"path": str(folder / "table.csv"), "metric": "accuracy"})
    compared.ranking.update({"architectures": 4, "images": 10})
    return compared


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("comparison")
    write_data(path / "data.npz")
    return path


@pytest.fixture(scope="module")
def finished(folder):
    """A comparison of two seeds that was stopped before its second search and then continued."""
    config, workdir = tiny(folder, num_seeds=2), folder / "run"
    search, searched = module.search, []

    def stopping(run, path):
        searched.append(path.name)
        if len(searched) == 2:
            raise Stopped("SIGTERM", "in search at step 0 of 10")
        return search(run, path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "search", stopping)
        with pytest.raises(Stopped):
            compare(config, workdir)
        assert not (workdir / "result.json").exists()
        before = (workdir / "gdas" / "result.json").stat().st_mtime_ns
        result = compare(config, workdir)
    assert searched == ["gdas", "random", "gdas", "random"]
    assert (workdir / "gdas" / "result.json").stat().st_mtime_ns == before  # it was finished, and not run again
    return config, workdir, result


def test_a_comparison_writes_what_it_promises(finished):
    _, workdir, result = finished
    assert json.loads((workdir / "result.json").read_text()) == result
    assert "Which is best?" in (workdir / "report.html").read_text()
    table = (workdir / "table.md").read_text()
    assert all(name in table for name in ("gdas", "random (baseline)", RANDOM_ROW))
    # 20 of 40 images are for the weights: 5 steps of 4 images in each of 2 epochs.
    assert result["training_examples"] == {"gdas": 40, "random": 40}
    assert "25.00% on average" in " ".join(result["notes"])


def test_rows_hold_the_truth_of_what_was_found(finished):
    rows = {row["name"]: row for row in finished[2]["rows"]}
    assert set(rows) == {"gdas", "random", RANDOM_ROW}
    for row in rows.values():
        true = [TRUE[text] / 100 for text in row["architectures"]]
        np.testing.assert_allclose(row["true"], true, rtol=1e-15)
        np.testing.assert_allclose(row["better_than"], [np.mean([v / 100 < t for v in TRUE.values()]) for t in true])
        assert len(row["params"]) == len(row["mult_adds"]) == 2 and row["accuracies"] == []
    assert [name for name, row in rows.items() if row["is_baseline"]] == ["random"]
    assert rows["random"]["rank_correlation"] is None and rows[RANDOM_ROW]["seconds"] is None
    assert all(rows[name]["memory_bytes"] > 0 and rows[name]["seconds"] > 0 for name in ("gdas", "random"))
    means = [np.mean(row["true"]) for row in finished[2]["rows"]]
    assert means == sorted(means, reverse=True)


def test_a_random_architecture_is_trained_once_for_all_methods(finished):
    of_methods = finished[2]["searches"]
    assert all("random" in seed for seed in of_methods["random"]["per_seed"])
    assert not any("random" in seed for seed in of_methods["gdas"]["per_seed"])


def test_searches_are_followed_and_ranked_by_the_table(finished):
    searched = finished[2]["searches"]
    for label, one in searched.items():
        assert np.shape(one["true_by_epoch"]) == (2, 2)
        last = [TRUE[seed["architecture"]] / 100 for seed in one["per_seed"]]
        np.testing.assert_allclose(np.asarray(one["true_by_epoch"])[:, -1], last, rtol=1e-15)
        assert ("ranking" in one) == (label == "gdas")
    for seed in searched["gdas"]["ranking"]:
        assert seed["count"] == 4
        assert seed["kendall"] is None or -1 <= seed["kendall"] <= 1  # None where all four answer alike


def test_accuracies_of_subnets_are_gathered_over_the_seeds_that_have_them():
    entries = [{"subnets": {"smallest": [0.1, 0.2], "largest": [0.3, 0.4]}} for _ in range(2)]
    assert module._subnets(entries) == {"smallest": [[0.1, 0.2]] * 2, "largest": [[0.3, 0.4]] * 2}
    assert module._subnets([{"seed": 0}, {"seed": 1}]) is None


def test_a_finished_comparison_is_not_run_again(finished, monkeypatch, capsys):
    config, workdir, result = finished
    monkeypatch.setattr(module, "search", None)
    assert compare(config, workdir) == result
    assert "nothing is left to do" in capsys.readouterr().err
    changed = config.copy_and_resolve_references()
    changed.ranking.images = 5
    with pytest.raises(UserError, match=r"ranking\.images \(was 10, is now 5\)"):
        compare(changed, workdir)


@pytest.mark.parametrize("listed", [4, 1])
def test_a_lost_report_is_made_again_without_searching(listed, finished, tmp_path, monkeypatch):
    """Also with a table that does not list everything that was found."""
    config, workdir, result = finished
    shutil.copytree(workdir, tmp_path / "run")
    (tmp_path / "run" / "report.html").unlink()
    lines = [f"{text},{value}" for text, value in list(TRUE.items())[:listed]]
    (tmp_path / "table.csv").write_text("\n".join(["architecture,accuracy", *lines]))
    config = config.copy_and_resolve_references()
    config.table.path = str(tmp_path / "table.csv")
    monkeypatch.setattr(module, "plan", _limited(module.plan, 4))  # a plan before the first search, and one in each
    again = compare(config, tmp_path / "run")
    if listed == 4:
        assert again == result
        assert (tmp_path / "run" / "report.html").read_bytes() == (workdir / "report.html").read_bytes()
    for row in again["rows"]:
        expected = [TRUE[text] / 100 if text in list(TRUE)[:listed] else None for text in row["architectures"]]
        assert row["true"] == pytest.approx(expected)


def _limited(plan, most):
    """`plan`, which may be called so many times: what was examined before is not examined again."""
    calls = []

    def counted(config):
        calls.append(config)
        assert len(calls) <= most
        return plan(config)

    return counted


def weight_epochs(run):
    """The epochs of all stages in which weights learn."""
    if run.method.name == "once_for_all":
        stages = (run.method.kernel_epochs, *run.method.depth_epochs, *run.method.width_epochs)
        return run.epochs + sum(stages) + 3 * run.method.warmup_epochs  # one warm-up for each kind
    return run.epochs + run.method.get("member_epochs", 0)


@pytest.mark.parametrize("name", CONFIGS)
def test_every_config_makes_searches_of_one_budget(name):
    config = importlib.import_module(f"configs.compare.{name}").get_config()
    config.table.path = config.table.path or "somewhere.csv"
    runs = searches(config)
    for run in runs.values():
        check_fields(run)
    if config.equal_budget:
        assert len({(weight_epochs(run), run.batch_size) for run in runs.values()}) == 1
    # Comparisons of methods have a baseline, which alone trains random architectures; those of rankings train nothing,
    # and those of nested networks ask how these fare over time.
    trained = [label for label, run in runs.items() if run.retrain.random_baseline and run.retrain.epochs]
    nested = all(run.method.name in ("once_for_all", "joint", "sandwich") for run in runs.values())
    assert trained in (["random"], []) and ("random" in runs or config.ranking.architectures or nested)


def change(name, value):
    """An edit of a config: what is named "a.b" becomes the value; None removes it."""

    def edit(config):
        *path, last = name.split(".")
        for part in path:
            config = config[part]
        with config.unlocked(), config.ignore_type():
            if value is None:
                del config[last]
            else:
                config[last] = ConfigDict(value) if isinstance(value, dict) else value

    return edit


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("methods", {}, "the comparison has no methods"),
        ("methods.gdas", {"epochs": 2}, "methods.gdas lacks the field 'method', a group of fields."),
        ("methods.gdas.method.name", "gdsa", "methods.gdas: unknown method 'gdsa'; did you mean"),
        ("methods.gdas.method.samples", 3, "methods.gdas: the method 'gdas' has no samples"),
        ("methods.gdas.epochs", "two", "methods.gdas does not fit base: "),
        ("methods.gdas.epoch", 2, "methods.gdas: unknown config field 'epoch'; did you mean 'epochs'?"),
        ("methods.gdas.num_seeds", 2, "methods.gdas overrides num_seeds, which all methods have in common"),
        ("methods.gdas.retrain", {"epochs": 1}, "methods.gdas overrides retrain.epochs, which all methods have"),
        ("methods.gdas.data", {"path": "x"}, "methods.gdas overrides data.path, which all methods have"),
        ("methods.a/b", {"method": {"name": "gdas"}}, "the label 'a/b' names a folder"),
        ("methods.gdas.epochs", 4, "different numbers of examples: gdas 80, random 40; change their epochs"),
        ("table.metric", "acuracy", "unknown metric of the table 'acuracy'; did you mean 'accuracy'?"),
        ("table.path", "none.csv", "there is no table 'none.csv'."),
        ("table.scale", 0.0, "table.scale must be above 0 and finite, not 0.0."),
        ("table.metrics", "x", "unknown config field 'table.metrics'; did you mean 'table.metric'?"),
        ("base.retrain", None, "the config lacks the field 'base.retrain', a group of fields."),
        ("base.retrain.random_baseline", None, "lacks the field 'retrain.random_baseline', True or False."),
        ("table", None, "the config lacks the field 'table', a group of fields."),
        ("ranking.images", -1, "ranking.images must be at least 0, not -1."),
        ("ranking.images", None, "the config lacks the field 'ranking.images', a whole number."),
        ("equal_budget", "yes", "equal_budget must be True or False, not 'yes'."),
        ("equal_budgets", True, "unknown config field 'equal_budgets'; did you mean 'equal_budget'?"),
        ("base.epochs", 3, "methods.random: method.candidates is 2, which does not share 3 epochs equally"),
    ],
)
def test_mistakes_are_found_before_the_first_search(name, value, message, folder, tmp_path, monkeypatch):
    config = tiny(folder)
    change(name, value)(config)
    monkeypatch.setattr(module, "search", None)
    with pytest.raises(UserError) as error:
        compare(config, tmp_path / "run")
    assert message in str(error.value)
    assert not (tmp_path / "run").exists()


def test_without_a_table_the_ranked_architectures_are_trained(folder, tmp_path, monkeypatch):
    config, workdir = tiny(folder), tmp_path / "run"
    config.table.update({"path": "", "metric": ""})
    config.base.retrain.update({"epochs": 1, "batch_size": 4, "random_baseline": False})
    del config.methods["random"]
    train, trained = examination.train_architecture, []

    def stopping(session, architecture, seed, kind):
        trained.append(session.made.space.canonical(architecture))
        if len(trained) == 3:
            raise Stopped("SIGTERM", kind)
        return train(session, architecture, seed, kind)

    monkeypatch.setattr(examination, "train_architecture", stopping)
    with pytest.raises(Stopped):
        compare(config, workdir)
    result = compare(config, workdir)
    assert sorted(trained[:2] + trained[3:]) == sorted(TRUE)  # each once, but for the one that was interrupted
    known = json.loads((workdir / "ranked-architectures" / "accuracies.json").read_text())
    assert set(known) == set(TRUE) and all(0 <= accuracy <= 1 for accuracy in known.values())
    (searched,) = result["searches"].values()
    assert searched["ranking"][0]["count"] == 4 and "true_by_epoch" not in searched
    assert "the test accuracies of 4 random architectures" in " ".join(result["notes"])


def test_nothing_to_compare_is_a_mistake(folder, tmp_path):
    config = tiny(folder)
    config.table.path, config.ranking.architectures = "", 0
    with pytest.raises(UserError, match="nothing could be compared"):
        compare(config, tmp_path / "run")


def test_other_budgets_can_be_asked_for(folder, tmp_path, monkeypatch):
    config = tiny(folder)
    change("methods.gdas.epochs", 4)(config)
    config.equal_budget = False

    def begun(run, path):
        raise Stopped("SIGTERM", f"in {path.name}")

    monkeypatch.setattr(module, "search", begun)
    with pytest.raises(Stopped, match="in gdas"):
        compare(config, tmp_path / "run")
