import subprocess
import sys
from pathlib import Path

import pytest

from jaxnas.costs.latency import read_latency_table

ROOT = Path(__file__).parents[2]
SMALL = ("--space=nas_bench_macro_8", "--device=cpu", "--output=table.csv")


def measure(*arguments, cwd):
    command = [sys.executable, ROOT / "launch/latency.py", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


def test_a_small_space(tmp_path):
    """The file holds every piece and the rest, and so does what is printed, beside the error of the predictions."""
    result = measure(*SMALL, "--image_size=8", "--repeats=1", "--check=2", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    table = read_latency_table(tmp_path / "table.csv")
    assert {"rest", "mbconv_k5_e6 8x8x8 c8 s2"} < set(table.rows)
    assert all(name in result.stdout for name in table.rows)
    assert (table.about["family"], table.about["device"]) == ("nas_bench_macro", "cpu")
    assert "2 random networks: mean error" in result.stdout and "Spearman" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (SMALL[1:], "the flag --space is missing"),
        (("--space=fbnet_9", *SMALL[1:]), "unknown space 'fbnet_9'; did you mean 'fbnet_8'?"),
        ((*SMALL, "--device=abacus"), "JAX cannot start on --device=abacus here; it can on cpu."),
        ((*SMALL, "--repeats=0"), "--repeats is '0', but has to be a whole number of at least 1."),
        ((*SMALL, "--image_size=big"), "--image_size is 'big', but has to be a whole number of at least 1."),
        ((*SMALL, "--check=1"), "--check is '1', but has to be a whole number of at least 2."),
        ((*SMALL, "--output=folder/table.csv"), "--output is 'folder/table.csv', but there is no such folder."),
    ],
)
def test_mistakes_are_one_sentence(arguments, sentence, tmp_path):
    result = measure(*arguments, cwd=tmp_path)
    assert result.returncode == 2
    assert result.stdout == ""
    assert sentence in result.stderr and result.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
