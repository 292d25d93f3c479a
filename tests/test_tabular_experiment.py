"""Searches in a table from config to report: what is written, going on after a stop, and mistakes."""

import importlib
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from ml_collections import ConfigDict

from configs.search import spaces
from configs.tabular import common
from jaxnas import tabular_experiment as module
from jaxnas.core.errors import Stopped, UserError
from jaxnas.evaluate.synthetic import synthetic_table
from jaxnas.evaluate.tabular import column
from jaxnas.evaluate.tabular_search import judge
from jaxnas.report.tabular import markdown_tabular, render_tabular
from jaxnas.strategies import STRATEGIES
from jaxnas.tabular_experiment import make_setting, run_tabular
from tests.report.parsed_page import Page, assert_self_contained

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = sorted(path.stem for path in (ROOT / "configs" / "tabular").glob("*.py") if path.stem != "common")
SPACE = {"name": "synthetic", "choices": 3, "options": 3, "interactions": 0.5, "seed": 0}
TABLE = synthetic_table(**{name: value for name, value in SPACE.items() if name != "name"})
SEARCHES = {"random": {"name": "random", "batch": 2}, "few": {"name": "random", "batch": 5}}
MACRO = {**spaces.NAS_BENCH_MACRO_8, "stem": 4, "widths": (4,), "depths": (2,), "strides": (2,), "head": 8}
MACRO |= {"candidates": ("identity", "mbconv_k3_e3")}
LISTED = ("architecture,accuracy,params", "00,10,1", "01,40,5", "10,30,5", "11,20,9")


def tiny(strategies=SEARCHES, space=SPACE):
    config = common.tabular("Which is best?", space, strategies)
    config.repetitions, config.evaluations = 6, 20
    return config


def searched(config, workdir, calls):
    """Runs a config with `tabular_search` noting in `calls` which strategies it runs, by their batch."""
    search = module.tabular_search

    def noting(strategy, *arguments, **settings):
        calls.append(strategy.batch)
        return search(strategy, *arguments, **settings)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "tabular_search", noting)
        return run_tabular(config, workdir)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run that was killed in its second search, and then continued."""
    workdir, calls = tmp_path_factory.mktemp("tabular") / "run", []
    config, search = tiny(), module.tabular_search

    def killed(strategy, *arguments, **settings):
        if calls:
            raise KeyboardInterrupt
        calls.append(strategy.batch)
        return search(strategy, *arguments, **settings)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "tabular_search", killed)
        with pytest.raises(KeyboardInterrupt):
            run_tabular(config, workdir)
    assert not (workdir / "result.json").exists()
    result = searched(config, workdir, calls)
    assert calls == [5, 2]  # in the order of their labels, each once
    return config, workdir, result


def without_times(result):
    searches = {
        label: {name: value for name, value in search.items() if name not in ("compile", "seconds")}
        for label, search in result["searches"].items()
    }
    return result | {"searches": searches}


def test_a_killed_run_ends_in_the_result_of_one_that_was_not(finished, tmp_path):
    config, _, result = finished
    calls = []
    assert without_times(searched(config, tmp_path / "run", calls)) == without_times(result)
    assert calls == [5, 2]


def test_a_finished_run_is_not_run_again(finished, capsys):
    config, workdir, result = finished
    calls = []
    assert searched(config, workdir, calls) == result
    assert calls == [] and "nothing is left to do" in capsys.readouterr().err
    changed = config.copy_and_resolve_references()
    changed.evaluations = 10
    with pytest.raises(UserError, match=r"evaluations \(was 20, is now 10\)"):
        run_tabular(changed, workdir)


def test_a_lost_report_is_made_again_without_searching(finished, tmp_path):
    config, workdir, result = finished
    shutil.copytree(workdir, tmp_path / "run")
    (tmp_path / "run" / "report.html").unlink()
    calls = []
    assert searched(config, tmp_path / "run", calls) == result
    assert calls == []
    assert (tmp_path / "run" / "report.html").read_bytes() == (workdir / "report.html").read_bytes()


def test_a_run_asked_to_stop_says_after_what(tmp_path, monkeypatch):
    class Requested:
        requested = None

        def __init__(self, unit):
            assert unit == "search"

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

    def stopping(*arguments, **settings):
        Requested.requested = "SIGTERM"
        return search(*arguments, **settings)

    search = module.tabular_search
    monkeypatch.setattr(module, "StopRequest", Requested)
    monkeypatch.setattr(module, "tabular_search", stopping)
    with pytest.raises(Stopped, match="stopped after 1 of 2 strategies"):
        run_tabular(tiny(), tmp_path / "run")
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["few.json"]


def test_the_result_holds_what_every_repetition_reached(finished):
    _, workdir, result = finished
    assert json.loads((workdir / "result.json").read_text()) == result
    values = column(TABLE, "accuracy")
    for search in result["searches"].values():
        rounds, ends = search["by_round"], search["ends"]
        assert rounds["spent"][-1] == 20 and search["range"] == pytest.approx([0.5, 0.95])
        assert {len(ends[name]) for name in ends} == {6}
        np.testing.assert_allclose(np.array(ends["regret"]) + ends["accuracy"], 0.95, rtol=1e-6)
        assert all(np.isclose(values, value).any() for value in ends["accuracy"])
        assert ends["derived"] == ends["accuracy"]  # random search derives the best that it has seen
        assert rounds["regret"][-1] == pytest.approx(np.mean(ends["regret"]))
        assert rounds["found"][-1] == pytest.approx(np.mean([value == 0 for value in ends["regret"]]))
        for low, middle, high in zip(rounds["low"], rounds["accuracy"], rounds["high"], strict=True):
            assert low <= middle <= high
        assert [number for number, one in enumerate(ends["nearly"]) if one is None] == [
            number for number, regret in enumerate(ends["regret"]) if regret > 0.0045
        ]
        assert search["proposals"] == 6 * 20
        assert sum(one["repetitions"] for one in search["derived"]) <= 6
        assert all(one["architecture"] in TABLE.rows for one in search["derived"])


def test_quantiles_are_over_repetitions(finished):
    """Of six repetitions the 10 % quantile is the worst, the median the third and the 90 % quantile the best."""
    for search in finished[2]["searches"].values():
        ordered = sorted(search["ends"]["accuracy"])
        found = [search["by_round"][name][-1] for name in ("low", "accuracy", "high")]
        assert found == [ordered[0], ordered[2], ordered[5]]


def test_the_report_shows_every_search(finished):
    config, workdir, result = finished
    page = (workdir / "report.html").read_text()
    assert_self_contained(page)
    parsed = Page(page)
    assert len(parsed.identifiers) == len(set(parsed.identifiers)) > 0
    expected = [
        "Which is best?",
        "random",
        "few",
        "6 repetitions",
        "95.00% at best",
        "Best so far",
        "Regret",
        "Entropy",
    ]
    assert [words for words in expected if words not in parsed.text] == []
    lines = (workdir / "table.md").read_text().splitlines()
    assert [line.split(" | ")[0] for line in lines[:2]] == ["| search", "| ---"]
    mean = {label: np.mean(search["ends"]["regret"]) for label, search in result["searches"].items()}
    assert [line.split(" | ")[0][2:] for line in lines[2:]] == sorted(mean, key=mean.get)
    again = render_tabular(config.question, result["searches"], result["notes"], json.loads(config.to_json()))
    assert again == page


def test_the_table_says_what_repetitions_lack():
    """A repetition without a best, one beyond the limit, and fewer than half that come near the best."""
    search = {
        "by_round": {"spent": [1.0, 1500.0], "found": [0.0, 0.25]},
        "ends": {
            "accuracy": [0.5, 0.7, None, 0.6],
            "regret": [0.2, 0.0, None, 0.1],
            "derived": [0.5, 0.5, None, None],
            "nearly": [None, 700.0, None, None],
        },
        "proposals": 8000,
        "seconds": 2.0,
        "compile": 61.0,
    }
    lines = markdown_tabular({"a": search}).splitlines()
    row = dict(zip(lines[0].strip("| ").split(" | "), lines[2].strip("| ").split(" | "), strict=True))
    assert row == {
        "search": "a",
        "evaluations": "1,500",
        "best found, %": "60.00 ± 10.00",
        "derived, %": "50.00 ± 0.00",
        "derived beyond the limit, %": "50.0",
        "mean regret": "–",
        "median regret": "15.000",
        "find the best, %": "25.0",
        "evaluations to 99 %": "–",
        "run": "2.0 s",
        "compile": "1 min 1 s",
        "evaluations / s": "4 k",
    }
    with pytest.raises(UserError, match="at least one search, but has none"):
        markdown_tabular({})


def test_what_a_person_typed_is_escaped(finished):
    hostile = "</code><script>alert('&')</script>"
    page = render_tabular(hostile, finished[2]["searches"], [hostile], {"question": hostile})
    assert "script" not in Page(page).tags


@pytest.mark.parametrize("name", CONFIGS)
def test_the_strategies_of_every_config_can_be_built(name, tmp_path):
    """A file stands in for the table that a space of networks needs."""
    config = importlib.import_module(f"configs.tabular.{name}").get_config()
    if config.space.name != "synthetic":
        header = ["architecture", config.table.metric, config.cost.column or "other"]
        (tmp_path / "table.csv").write_text(f"{','.join(header)}\n00000000,50,10\n11111111,60,20\n22222222,70,30\n")
        config.table.path = str(tmp_path / "table.csv")
    made = make_setting(config)
    assert set(made.strategies) == set(config.strategies)
    assert all(strategy.batch <= config.evaluations for strategy in made.strategies.values())


def test_every_strategy_is_among_those_that_are_compared():
    assert {entry["name"] for entry in common.STRATEGIES.values()} == set(STRATEGIES)


def test_a_table_of_a_family_has_its_costs(tmp_path):
    """Counted parameters limit what counts: with the limit of the second largest, the largest is not the best."""
    (tmp_path / "table.csv").write_text("\n".join(LISTED).replace("11,20,9", "11,90,9"))
    config = tiny({"random": SEARCHES["random"]}, MACRO)
    config.table.update({"path": str(tmp_path / "table.csv"), "scale": 0.01})
    config.images.size = 8
    config.cost.update({"name": "params", "limit": 0.0})
    costs = judged(config).costs
    assert np.argmax(costs) == 3
    config.cost.limit = float(np.sort(costs)[2])
    np.testing.assert_allclose(judged(config).rewards, [0.1, 0.4, 0.3, np.nan], rtol=1e-6)
    config.cost.update({"name": "column", "column": "params", "limit": 0.0, "target": 5.0, "exponent": -1.0})
    np.testing.assert_allclose(judged(config).rewards, [0.5, 0.4, 0.3, 0.5], rtol=1e-6)


def test_a_limit_that_only_some_listed_ones_meet_can_be_searched(tmp_path):
    """Costs that are looked up have no derivative to follow to the cheapest; those not listed are the dearest."""
    config = tiny({"random": SEARCHES["random"]}, MACRO)
    (tmp_path / "table.csv").write_text("\n".join([*LISTED[:2], LISTED[-1]]))
    config.table.update({"path": str(tmp_path / "table.csv"), "scale": 0.01, "missing": "worst"})
    config.cost.update({"name": "column", "column": "params"})
    costs = judged(config).costs
    config.cost.limit = float(np.min(costs))
    made = make_setting(config)
    assert float(made.problem.price(made.problem.cheapest)) == np.min(costs)
    assert run_tabular(config, tmp_path / "run")["searches"]["random"]["by_round"]["found"][-1] == 1


def test_a_budget_below_the_first_round_names_its_strategy(tmp_path):
    config = tiny({"random": SEARCHES["random"]})
    config.evaluations = 1
    with pytest.raises(UserError, match=r"strategies\.random: evaluations is 1, but the first round"):
        run_tabular(config, tmp_path / "run")


def test_a_policy_of_one_strategy_is_its_own():
    config = importlib.import_module("configs.tabular.toy").get_config()
    config.strategies.reinforce.policy.name = "recurrent"
    assert config.strategies.ppo.policy.name == "factorised"


def judged(config):
    made = make_setting(config)
    return judge(made.problem, made.answers)


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


WRONG = [
    ("evaluation", 3, "unknown config field 'evaluation'; did you mean 'evaluations'?"),
    ("evaluations", 0, "evaluations must be from 1 to 10,000,000, not 0."),
    ("repetitions", 10**11, "repetitions must be from 1 to 1,000,000, not 100000000000."),
    ("repetitions", None, "the config lacks the field 'repetitions', a whole number."),
    ("table", None, "the config lacks the field 'table', a group of fields."),
    ("table.noise", -1.0, "table.noise must be from 0 to 1,000,000, not -1.0."),
    ("table.missing", "eror", "unknown way to answer for missing architectures 'eror'; did you mean 'error'?"),
    ("table.metric", "acuracy", "unknown metric of the table 'acuracy'; did you mean 'accuracy'?"),
    ("table.path", "here.csv", "table.path is 'here.csv', which has no effect with the space 'synthetic'."),
    ("space.name", "synthetc", "unknown space 'synthetc'; did you mean 'synthetic'?"),
    ("space.name", "nas_bench_201", "unknown setting of 'nas_bench_201', space. 'choices'"),
    ("space.options", 1, "space.options must be from 2 to 1,000,000, not 1."),
    ("space.choices", 30, "30 choices among 3 options make 205,891,132,094,649 architectures, but a table can have"),
    ("space.seed", None, "space lacks seed, which 'synthetic' needs."),
    ("cost.name", "size", "unknown cost 'size'; known are: bit_operations, column, mult_adds, none, params."),
    ("cost.name", "params", "cost.name is 'params', but a synthetic table has no networks; take 'column'."),
    ("cost.column", "cost", "cost.column is 'cost', which has no effect with cost.name 'none'."),
    ("cost.limit", 5.0, "cost.limit is 5, which has no effect with cost.name 'none'."),
    ("cost", {"name": "column", "column": "cots"}, "unknown metric of the table 'cots'; did you mean 'cost'?"),
    ("cost", {"name": "column", "column": "cost", "limit": 1.0}, "cost.limit is 1, which no architecture of the table"),
    ("cost.hard", True, "cost.hard is True, which has no effect without cost.target."),
    ("cost", {"name": "column", "column": "cost", "target": 1e6, "exponent": -1e5}, "is inf; change cost.target or"),
    ("cost.exponent", 0.5, "cost.exponent must be at most 0 and finite, not 0.5."),
    ("strategies", {}, "the config has no strategies; give strategies.LABEL.name for each."),
    ("strategies.random", {"batch": 2}, "strategies.random lacks the field 'name', a text."),
    ("strategies.random.name", "randm", "strategies.random: unknown strategy 'randm'; did you mean 'random'?"),
    ("strategies.random.bath", 2, "unknown setting of 'random', strategies.random. 'bath'; did you mean 'batch'?"),
    ("strategies.random.batch", None, "strategies.random lacks batch, which 'random' needs."),
    ("strategies.random.batch", 0, "strategies.random.batch must be from 1 to 100,000, not 0."),
    ("strategies.a/b", SEARCHES["random"], "the label 'a/b' names a file, so it has to be made of letters"),
    ("strategies.random", common.STRATEGIES["reinforce"] | {"policy": {"name": "factored"}}, "did you mean 'factor"),
    ("strategies.random", common.STRATEGIES["reinforce"] | {"policy": 3}, "random.policy lacks the field 'name', a t"),
    (
        "strategies.random",
        common.STRATEGIES["reinforce"] | {"policy": {"name": "recurrent"}},
        "strategies.random.policy lacks hidden, temperature, tanh_constant, which 'recurrent' needs.",
    ),
    ("strategies.random", common.STRATEGIES["off_policy"] | {"clip": 0.5}, "strategies.random: clip is 0.5, but has"),
]


@pytest.mark.parametrize(("name", "value", "message"), WRONG, ids=lambda value: str(value)[:40])
def test_mistakes_are_found_before_anything_is_written(name, value, message, tmp_path):
    config = tiny()
    if name == "cost":
        config.cost.update(value)
    else:
        change(name, value)(config)
    with pytest.raises(UserError) as error:
        run_tabular(config, tmp_path / "run")
    assert message in str(error.value)
    assert re.search(r"[.?]$", str(error.value))
    assert not (tmp_path / "run").exists()


def test_a_space_of_networks_needs_a_table_and_one_with_all_that_is_proposed(tmp_path):
    config = tiny({"random": SEARCHES["random"]}, MACRO)
    with pytest.raises(UserError, match=r"need a table of 'nas_bench_macro', a CSV file; give table\.path"):
        run_tabular(config, tmp_path / "run")
    (tmp_path / "table.csv").write_text("\n".join(LISTED[:3]))
    config.table.path = str(tmp_path / "table.csv")
    message = r"strategies\.random: the table does not list the architecture '1[01]', which the search proposed"
    with pytest.raises(UserError, match=message):
        run_tabular(config, tmp_path / "run")
