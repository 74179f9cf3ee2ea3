"""From nothing to the first moved slider, walked and timed: `python tests/imitate/first_slider.py ROAD`.

ROAD: make, or pip. It clones this repository into a temporary folder, types what the README says, opens notebook 00 in
a real browser, runs it, presses an arrow key on the first slider, and prints the seconds of each step. Gigabytes are
downloaded: it is for docs/install.md, and no test. It needs chromium and this environment's playwright.
"""

import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.extend([str(Path(__file__).parents[1] / "browser"), str(Path(__file__).parents[1])])
from test_in_browser import CHROMIUM, FLAGS

ROOT = Path(__file__).parents[2]
ROADS = {
    "make": (["make environment"], ["make", "lab"]),
    "pip": (
        ["python3 -m venv .venv", '. .venv/bin/activate && pip install --quiet -e ".[test]"'],
        [".venv/bin/rslab", "lab"],
    ),
}


def walk(road: str) -> None:
    """Print the seconds of each step of a road."""
    from playwright.sync_api import sync_playwright

    commands, lab = ROADS[road]
    with tempfile.TemporaryDirectory(prefix="rslab-walk-") as folder, sync_playwright() as driver:
        kit = Path(folder) / "rslab"
        for command in [f"git clone --quiet {ROOT} {kit}", *(f"cd {kit} && {command}" for command in commands)]:
            began = time.perf_counter()
            subprocess.run(["bash", "-c", command], check=True)
            said(began, command.rpartition(" && ")[2])
        began, log = time.perf_counter(), Path(folder) / "lab.log"
        with log.open("w", encoding="utf-8") as file:
            server = subprocess.Popen(lab, cwd=kit, stdout=file, stderr=subprocess.STDOUT)
        try:
            while not (found := re.search(r"http://127\S+/lab\?token=\S+", log.read_text(encoding="utf-8"))):
                if server.poll() is not None:
                    sys.exit(log.read_text(encoding="utf-8"))
                time.sleep(0.1)
            said(began, " ".join(lab))
            began = time.perf_counter()
            browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
            page = browser.new_page()
            page.set_default_timeout(120_000)
            page.goto(found[0].replace("/lab?", "/lab/tree/00_start_here.ipynb?"))
            page.wait_for_selector(".widget-slider, .jp-Notebook .jp-Cell")
            page.keyboard.press("Escape")
            page.get_by_role("menuitem", name="Run", exact=True).click()
            page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
            handle = page.locator(".widget-slider .noUi-handle").first
            handle.wait_for()
            page.get_by_role("button", name="Skip", exact=True).first.click()  # the prediction that holds the sliders
            before = page.locator(".rslab-picture img").first.get_attribute("src")
            handle.focus()
            page.keyboard.press("ArrowRight")
            page.wait_for_function("src => document.querySelector('.rslab-picture img').src !== src", arg=before)
            said(began, "notebook 00 opened, run, and its first slider moved")
            browser.close()
        finally:
            server.terminate()
            server.wait(30)


def said(began: float, what: str) -> None:
    """Print how long a step took."""
    print(f"{time.perf_counter() - began:7.1f} s  {what}", flush=True)


if __name__ == "__main__":
    walk(sys.argv[1])
