"""The promises that the source keeps as a whole: the one-way order, light imports, documented names and configs."""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "jaxnas"
# Every part imports only from those before it, and from itself.
ORDER = (
    *("core", "relax", "estimators", "layers", "data", "spaces", "networks", "costs", "search", "strategies"),
    *("methods", "train", "evaluate", "report", "limits", "pricing", "plan", "experiment", "lab_experiment"),
    *(
        "evaluation_network",
        "evaluation_data",
        "evaluation_plan",
        "evaluation",
        "examination",
        "specialization_plan",
        "specialization",
        "tabular_experiment",
        "comparison",
        "method_speed",
    ),
    *("sampling_speed", "architecture_speed", "training_speed", "elastic_speed"),
)
HEAVY = ("jax", "jaxlib", "flax", "orbax", "optax", "matplotlib", "tensorflow_datasets", "sklearn", "numpy")
MODULES = sorted(PACKAGE.rglob("*.py"))
CONFIGS = sorted(
    path
    for path in (ROOT / "configs").rglob("*.py")
    if path.name not in ("__init__.py", "common.py", "spaces.py", "methods.py")
)
SCRIPTS = [".ci/run", "launch/quickstart", "launch/test"]
LIGHT = ["jaxnas", "jaxnas.core.errors", "jaxnas.core.cli"]


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def part_of(path: Path) -> str | None:
    """The folder (or file) directly below the package that a module belongs to; None for the package's __init__."""
    first = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return None if first == "__init__" else first


def imports(source: str) -> Iterator[str]:
    """Every module that a source text imports, also within functions, with what is imported from it as a last part."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{'.' * node.level}{node.module or ''}.{alias.name}" for alias in node.names)


def faults(part: str | None, source: str) -> list[str]:
    """The imports in a module of `part` that go back, sideways or by a relative name."""
    found = []
    for module in imports(source):
        parts = module.split(".")
        if parts[0] == "":
            found.append(module)
        if parts[0] == "jaxnas" and parts[1:] not in ([], ["__version__"]):
            known = part in ORDER and parts[1] in ORDER
            if not known or ORDER.index(parts[1]) > ORDER.index(part):
                found.append(module)
    return found


@pytest.mark.parametrize(
    ("part", "source", "expected"),
    [
        ("networks", "from jaxnas.spaces.cell import cell_space", []),
        ("networks", "import jaxnas.networks.mixed_cell", []),
        ("networks", "import jaxnas.search.updates as updates", ["jaxnas.search.updates"]),
        ("networks", "def f():\n    from jaxnas import methods", ["jaxnas.methods"]),
        ("methods", "from jaxnas.train.loop import run", ["jaxnas.train.loop.run"]),
        ("train", "from jaxnas.methods import METHODS\nimport jax, os", []),
        ("core", "from . import types", ["..types"]),
        ("core", "from jaxnas import __version__", []),
        ("core", "from jaxnas.extras import more", ["jaxnas.extras.more"]),
        (None, "from jaxnas.core import types", ["jaxnas.core.types"]),
    ],
)
def test_faults_tells_right_from_wrong_imports(part, source, expected):
    assert faults(part, source) == expected


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_imports_go_one_way(path):
    assert part_of(path) in (*ORDER, None), f"{name(path)} belongs to no part in ORDER"
    assert faults(part_of(path), path.read_text()) == []


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_no_module_imports_tensorflow(path):
    assert "tensorflow" not in {module.split(".")[0] for module in imports(path.read_text())}


def test_pmap_is_used_in_one_module():
    users = {
        name(path)
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text()))
        if "pmap" in (getattr(node, "attr", None), getattr(node, "id", None), getattr(node, "name", None))
    }
    assert users == {"jaxnas/train/parallel.py"}


@pytest.mark.parametrize("module", LIGHT)
def test_light_modules_import_nothing_heavy(module):
    script = f"import sys, {module}; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert module in run.stdout.split()
    assert set(run.stdout.split()) & {*HEAVY, "tensorflow"} == set()


def public(body: list[ast.stmt], prefix: str = "") -> Iterator[tuple[str, ast.AST]]:
    """Functions and classes without a leading underscore, and the methods of such classes."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield prefix + node.name, node
            if isinstance(node, ast.ClassDef):
                yield from public(node.body, f"{prefix}{node.name}.")


@pytest.mark.parametrize("path", [path for path in MODULES if path.read_text()], ids=name)
def test_public_names_have_docstrings(path):
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree), f"{name(path)} has no docstring"
    assert [label for label, node in public(tree.body) if not ast.get_docstring(node)] == []


@pytest.mark.parametrize("path", CONFIGS, ids=name)
def test_config_names_its_command_time_and_result(path):
    text = ast.get_docstring(ast.parse(path.read_text())) or ""
    given = dict(re.findall(r"^(Command|Expected time|Expected result): +(.+)$", text, re.MULTILINE))
    assert set(given) == {"Command", "Expected time", "Expected result"}
    command = re.match(r"python (launch/\w+\.py) --config=(\S+)", given["Command"])
    assert command and (ROOT / command[1]).is_file() and command[2] == name(path)
    for field in ("Expected time", "Expected result"):
        assert re.search(r"\d", given[field]), f"{field} of {name(path)} has no figure: {given[field]!r}"


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_can_be_executed(script):
    path = ROOT / script
    assert os.access(path, os.X_OK)
    assert path.read_text().startswith("#!/usr/bin/env bash\n")
    subprocess.run(["bash", "-n", str(path)], check=True)


@pytest.mark.parametrize("launcher", sorted((ROOT / "launch").glob("*.py")), ids=name)
def test_launchers_are_small_and_explain_themselves_without_heavy_imports(launcher):
    assert len(launcher.read_text().splitlines()) <= 100
    run = subprocess.run(
        [sys.executable, "-X", "importtime", str(launcher), "--help"], capture_output=True, text=True, check=True
    )
    loaded = {line.split("|")[-1].strip() for line in run.stderr.splitlines() if line.startswith("import time:")}
    assert "jaxnas" in loaded
    assert loaded & {*HEAVY, "tensorflow"} == set()
    assert "usage" in run.stdout
