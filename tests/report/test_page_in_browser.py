"""The page in a real browser, where one is installed: it draws something everywhere, and nothing is reported."""

import shutil
import subprocess

import numpy as np
import pytest
from fake_lab_record import make_lab_record
from fake_record import make_other_record, make_record
from PIL import Image

from jaxnas.report.comparison import write_comparison
from jaxnas.report.lab_page import write_lab_report
from jaxnas.report.page import write_report

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium on the search path")


ROWS = [
    {"name": f"method {number}", "accuracies": [0.9, 0.91 + 0.01 * number], "seconds": 60.0 + number, "params": [1e6]}
    for number in range(6)
]
PAGES = {
    "search": (3000, lambda path: write_report(path, make_record(seeds=(0, 1), epochs=3, nodes=2))),
    "chain": (2400, lambda path: write_report(path, make_other_record("chain", epochs=4))),
    "comparison": (700, lambda path: write_comparison(path, "Methods", ROWS, ["A note."])),
    "lab": (2000, lambda path: write_lab_report(path, make_lab_record())),
}


@pytest.mark.parametrize(("width", "scheme"), [(1200, "light"), (1200, "dark"), (500, "light")])
@pytest.mark.parametrize(("height", "write"), PAGES.values(), ids=PAGES.keys())
def test_the_page_in_chromium(tmp_path, height, write, width, scheme):
    page, shot = tmp_path / "report.html", tmp_path / "shot.png"
    write(page)
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--enable-logging=stderr"]
    # The scheme is a renderer's setting: 0 is dark, 1 is light.
    flags += [f"--blink-settings=preferredColorScheme={int(scheme == 'light')}", f"--user-data-dir={tmp_path}/profile"]
    command = [str(BROWSER), *flags, f"--window-size={width},{height}", f"--screenshot={shot}", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "CONSOLE" not in done.stderr

    pixels = np.asarray(Image.open(shot).convert("L"), dtype=int)
    assert pixels.shape == (height, width)
    assert (np.median(pixels) > 128) == (scheme == "light")
    for number, band in enumerate(np.split(pixels, 10)):
        assert band.max() - band.min() > 60, f"band {number} of 10 is blank"
