"""The Python in the documents runs as it stands. A block opened by ```python notest is left out."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^( *)```(.*?)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)[^)]*\)")


def blocks(text: str) -> list[tuple[int, str]]:
    """Line number and source of every Python block that is to run, the lines numbered from 1."""
    return [
        (text.count("\n", 0, match.start(3)) + 1, match[3])
        for match in FENCE.finditer(text)
        if match[2].strip() == "python"
    ]


def execute(path: Path, text: str) -> None:
    """Runs the blocks of a document one after another in one namespace; tracebacks name the document's lines."""
    namespace = {"__name__": path.stem}
    for line, source in blocks(text):
        exec(compile("\n" * (line - 1) + source, str(path), "exec"), namespace)


def test_blocks_finds_python_and_nothing_else():
    text = "a\n```python\nx = 1\n```\n```bash\nls\n```\n```python notest\ny\n```\n```python\nz = x\n\nw = z\n```\n"
    assert blocks(text) == [(3, "x = 1\n"), (12, "z = x\n\nw = z\n")]


def test_blocks_share_a_namespace_and_report_their_lines():
    execute(Path("good.md"), "```python\nx = 1\n```\n```python\nassert x == 1\n```\n")
    with pytest.raises(ZeroDivisionError) as failure:
        execute(Path("bad.md"), "text\n\n```python\nx = 1\nx / 0\n```\n")
    assert (failure.traceback[-1].lineno, str(failure.traceback[-1].path)[-6:]) == (4, "bad.md")


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_documents_run(path, tmp_path, monkeypatch):
    text = path.read_text()
    monkeypatch.chdir(tmp_path)
    execute(path, text)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_files(path):
    missing = [link for link in LINK.findall(path.read_text()) if not (path.parent / link).exists()]
    assert missing == []
