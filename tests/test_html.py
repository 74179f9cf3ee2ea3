"""The course as web pages, on screen and on paper."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from explorers import explorer
from nbconvert import HTMLExporter

from rslab.errors import InputError
from rslab.lectures import html

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Index and page of a course of one notebook."""
    folder = tmp_path_factory.mktemp("course")
    shutil.copy(NOTEBOOKS / "02_randomized_smoothing.ipynb", folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(html, "course_folder", lambda: folder)
        return html.write_html(folder / "html")


@pytest.mark.author
def test_the_course_becomes_pages_with_figures_and_an_index(pages):
    index, page = (path.read_text(encoding="utf-8") for path in pages)
    assert '<a href="02_randomized_smoothing.html">Randomized smoothing</a>' in index
    assert page.count("<img") >= 8 and "data:image/png;base64" in page
    assert html.WIDGET not in page  # a slider without a kernel would be a promise


def test_html_needs_a_folder(tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(InputError, match="^out: got"):
        html.write_html(tmp_path / "file")


def test_a_notebook_that_is_exported_by_other_means_shows_the_picture_of_an_explorer():
    """As JupyterLab's File → Export as HTML: the widget's own view would be an empty place."""
    bundle, metadata = explorer("00 PromiseExplorer")._repr_mimebundle_()
    assert html.WIDGET in bundle
    output = nbformat.v4.new_output("execute_result", data=bundle, metadata=metadata, execution_count=1)
    cell = nbformat.v4.new_code_cell("explorer", outputs=[output], execution_count=1)
    page, _ = HTMLExporter().from_notebook_node(nbformat.v4.new_notebook(cells=[cell]))
    assert "data:image/png;base64" in page and html.WIDGET not in page


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
def test_on_paper_every_fold_is_open_and_on_screen_as_it_was(pages):
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page()
        page.route("http*://**", lambda route: route.abort())
        page.goto(pages[1].as_uri())
        folds = page.locator("details").count()
        page.locator("details summary").first.click()
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert page.locator("details[open]").count() == folds > 5
        page.evaluate("dispatchEvent(new Event('afterprint'))")
        assert page.locator("details[open]").count() == 1
        page.emulate_media(media="print")
        wide = "images => images.filter(image => image.getBoundingClientRect().right > innerWidth).length"
        page.set_viewport_size({"width": 700, "height": 900})  # a sheet of A4 between its margins
        assert page.locator("img").evaluate_all(wide) == 0
        browser.close()


def test_slides_begin_where_sections_begin(tmp_path):
    shutil.copy(NOTEBOOKS / "02_randomized_smoothing.ipynb", tmp_path)
    command = [sys.executable, "-m", "jupyter", "nbconvert", "--to", "slides", "02_randomized_smoothing.ipynb"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, timeout=120)
    deck = (tmp_path / "02_randomized_smoothing.slides.html").read_text(encoding="utf-8")
    notebook = json.loads((NOTEBOOKS / "02_randomized_smoothing.ipynb").read_text(encoding="utf-8"))
    first = ["".join(cell["source"])[:4] for cell in notebook["cells"] if cell["cell_type"] == "markdown"]
    upright = sum(start.startswith(("# ", "## ")) for start in first)
    down = sum(start == "### " for start in first)
    assert deck.count("<section>") == 2 * upright + down > 15  # each slide stands in a column of its own
