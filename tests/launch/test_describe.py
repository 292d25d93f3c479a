import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CIFAR, IMAGENET = (ROOT / f"configs/evaluate/darts_{name}.py" for name in ("cifar10", "imagenet"))
PUBLISHED = {"params": 3_349_342, "params_with_auxiliary": 3_825_768, "mult_adds": 528_359_040, "layers": 20}
SMALL = ("--config.network.channels=2", "--config.network.layers=3")


def describe(*arguments, cwd):
    command = [sys.executable, ROOT / "launch/describe.py", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([f"--config={CIFAR}"], PUBLISHED),
        (
            [f"--config={IMAGENET}"],
            {"params": 4_718_752, "params_with_auxiliary": 5_979_528, "mult_adds": 529_911_552, "layers": 14},
        ),
    ],
)
def test_published_networks_from_any_folder(arguments, expected, tmp_path):
    result = describe(*arguments, cwd=tmp_path)
    assert (json.loads(result.stdout), result.returncode) == (expected, 0)
    assert result.stdout.count("\n") == 1


def test_no_auxiliary_head_on_small_images(tmp_path):
    small = (f"--config={CIFAR}", *SMALL, "--config.images.size=8")
    result = describe(*small, "--config.network.auxiliary=False", cwd=tmp_path)
    assert json.loads(result.stdout)["params_with_auxiliary"] is None
    refused = describe(*small, cwd=tmp_path)
    assert refused.returncode == 2 and "set auxiliary to False" in refused.stderr


def test_a_genotype_in_the_notation(tmp_path):
    edges = "[('skip_connect', 0), ('skip_connect', 1)]"
    genotype = f"Genotype(normal={edges}, normal_concat=[2], reduce={edges}, reduce_concat=[2])"
    result = describe(f"--config={CIFAR}", *SMALL, f"--config.genotype={genotype}", cwd=tmp_path)
    assert json.loads(result.stdout)["layers"] == 3


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "the flag --config is missing"),
        (
            [f"--config={CIFAR}", "--config.network.chanels=3"],
            "unknown config field 'network.chanels'; did you mean 'network.channels'?",
        ),
        ([f"--config={CIFAR}", "--config.genotype=DARTS_V3"], "unknown genotype 'DARTS_V3'; did you mean 'DARTS_V2'?"),
        ([f"--config={CIFAR}", "--config.genotype=Genotype("], "the genotype cannot be read"),
    ],
)
def test_mistakes_are_one_sentence(arguments, sentence, tmp_path):
    result = describe(*arguments, cwd=tmp_path)
    assert result.returncode == 2
    assert result.stdout == ""
    assert sentence in result.stderr and result.stderr.count("\n") == 1


def test_help_loads_nothing_heavy(tmp_path):
    program = (
        "import runpy, sys\n"
        "sys.argv = ['describe.py', '--help']\n"
        "try:\n"
        f"    runpy.run_path({str(ROOT / 'launch/describe.py')!r}, run_name='__main__')\n"
        "finally:\n"
        "    assert not {'jax', 'flax', 'numpy', 'ml_collections'} & set(sys.modules)\n"
    )
    result = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    assert "mult_adds" in result.stdout and "--config=FILE" in result.stdout
