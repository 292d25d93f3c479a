import pytest

from jaxnas.core.cli import Flag, main
from jaxnas.core.errors import UserError

CONFIG = """
from ml_collections import ConfigDict

def get_config():
    space = {"channels": 16, "nodes": 4}
    return ConfigDict({"seed": 0, "rate": 0.5, "flip": True, "names": ("a", "b"), "space": space})
"""
WORKDIR = {"workdir": Flag("the folder of the run")}


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "experiment.py"
    path.write_text(CONFIG)
    return path


def call(*arguments, **settings):
    """The exit code and what `run` received."""
    received = []

    def run(*args, **kwargs):
        received.append((*args, kwargs))

    code = main(run, description="Does something.", arguments=["program.py", *map(str, arguments)], **settings)
    return code, received


def test_config_and_flags_arrive(config):
    code, received = call(
        f"--config={config}",
        "--config.space.channels=8",
        "--config.rate=1e-3",
        "--noconfig.flip",
        "--config.names=('c',)",
        "--workdir",
        "runs/a",
        flags=WORKDIR,
    )
    ((arrived, flags),) = received
    assert code == 0
    assert arrived.to_dict() == {
        "seed": 0,
        "rate": 1e-3,
        "flip": False,
        "names": ("c",),
        "space": {"channels": 8, "nodes": 4},
    }
    assert flags == {"workdir": "runs/a"}
    assert arrived.is_locked


def test_flags_without_a_config():
    suite = {"suite": Flag("what to measure", default="supernet")}
    assert call(flags=suite, config=False) == (0, [({"suite": "supernet"},)])
    assert call("--suite=all", flags=suite, config=False) == (0, [({"suite": "all"},)])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--config.spce.channels=8"], "unknown config field 'spce.channels'; did you mean 'space.channels'?"),
        (["--config.space.chanels=8"], "unknown config field 'space.chanels'; did you mean 'space.channels'?"),
        (["--config.names[0]=c"], "unknown config field 'names[0]'; did you mean 'names'?"),
        (["--config.seed=x"], "--config.seed=x does not fit: the field holds a value of type int, like 0."),
        (["--config.flip=x"], "--config.flip=x does not fit: the field holds a value of type bool, like True."),
        (["--config.space=3"], "space is a group of fields, like space.channels; give those."),
        (["--config.seed=1", "--config.seed=2"], "the flag --config.seed is given twice."),
        (["--config.seed"], "Missing value for flag --config.seed."),
        (["--wrkdir=a"], "unknown flag 'wrkdir'; did you mean 'workdir'?"),
        (["a"], "unexpected argument 'a'; flags are written --name=value."),
        ([], "the flag --workdir is missing: the folder of the run."),
        (["--config=other.py"], "the flag --config is given twice."),
    ],
)
def test_mistakes_on_the_command_line(arguments, sentence, config, capsys):
    assert call(f"--config={config}", *arguments, flags=WORKDIR) == (2, [])
    captured = capsys.readouterr()
    assert sentence in captured.err and captured.err.count("\n") == 1
    assert captured.out == ""


@pytest.mark.parametrize(
    ("path", "text", "sentence"),
    [
        ("", "", "the flag --config is missing: give the file of an experiment"),
        ("experimnt.py", "", "does not exist; did you mean "),
        ("nowhere/else.py", "", "does not exist; an experiment is given like"),
        ("broken.py", "def get_config(:", "broken.py cannot be loaded, SyntaxError: "),
        ("broken.py", "def get_config(): return 1 / 0", "cannot be loaded, ZeroDivisionError: division by zero"),
        ("broken.py", "import not_there", "cannot be loaded, ModuleNotFoundError: No module named 'not_there'"),
        ("broken.py", "def get_config(): return {}", "returns a dict, not an ml_collections.ConfigDict."),
        ("broken.py", "x = 1", "broken.py has no function get_config."),
    ],
)
def test_config_files_that_do_not_load(path, text, sentence, config, capsys):
    if text:
        (config.parent / path).write_text(text)
    assert call(f"--config={config.parent / path if path else ''}") == (2, [])
    captured = capsys.readouterr()
    assert sentence in captured.err and captured.err.count("\n") == 1


def test_a_config_takes_an_argument(tmp_path):
    path = tmp_path / "experiment.py"
    path.write_text("from ml_collections import ConfigDict\ndef get_config(name): return ConfigDict({'name': name})")
    ((config, _),) = call("--config", f"{path}:a:b")[1]
    assert config.name == "a:b"


def test_a_config_of_another_kind(config, capsys):
    assert call(f"--config={config}", fields=("seed", "genotype")) == (2, [])
    assert "lacks the field 'genotype'" in capsys.readouterr().err


def test_what_run_raises_and_returns(config, capsys):
    def fail():
        raise UserError("the disk\nis full.")

    arguments = {"description": "", "config": False, "arguments": ["program.py"]}
    assert main(fail, **arguments) == 2
    assert capsys.readouterr().err == "the disk is full.\n"
    assert main(lambda: 3, **arguments) == 3


def test_an_interruption_from_the_keyboard_is_one_line(capsys):
    def interrupted():
        raise KeyboardInterrupt

    assert main(interrupted, description="", config=False, arguments=["program.py"]) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_help_names_every_flag(capsys):
    assert call("--help", flags=WORKDIR | {"suite": Flag("what to measure", default="supernet")}) == (0, [])
    text = capsys.readouterr().out
    for expected in ("Does something.", "program.py", "--config=FILE", "--workdir=VALUE", "(default: supernet)"):
        assert expected in text
