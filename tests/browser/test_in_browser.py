"""A real browser: run notebooks in JupyterLab, move a slider by keyboard, see picture and numbers change."""

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync"
).split()
RUN_LIMIT_MS = 300_000  # a notebook takes under 90 s on two free cores
RUN_WHOLE = ("00_start_here", "04_radius_proof", "07_cifar10_table")

# JavaScript: the notebook's cells in the page, windowed or not.
NOTEBOOK = "jupyterapp.shell.currentWidget"
READY = f"() => window.jupyterapp && {NOTEBOOK} && {NOTEBOOK}.sessionContext && {NOTEBOOK}.sessionContext.isReady"
CODE_CELLS = f"{NOTEBOOK}.content.widgets.filter(cell => cell.model.type === 'code')"
ALL_RUN = f"() => {CODE_CELLS}.every(cell => cell.model.executionCount > 0)"
CLEAR = f"() => {{ for (const cell of {CODE_CELLS}) cell.model.executionCount = null; }}"
ERRORS = f"""() => {CODE_CELLS}
    .filter(cell => !(cell.model.getMetadata('tags') || []).includes('raises-exception'))
    .flatMap(cell => cell.model.outputs.toJSON())
    .filter(output => output.output_type === 'error')
    .map(output => output.evalue)"""

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def jupyterlab(tmp_path_factory):
    """The address of a JupyterLab on a copy of the notebooks, with a token, stopped afterwards."""
    tmp_path = tmp_path_factory.mktemp("jupyterlab")
    shutil.copytree(NOTEBOOKS, tmp_path / "notebooks")
    settings = tmp_path / "settings" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True)
    (settings / "notification.jupyterlab-settings").write_text(json.dumps({"fetchNews": "false"}), encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token = secrets.token_hex(16)
    folders = {"JUPYTERLAB_SETTINGS_DIR": "settings", "JUPYTERLAB_WORKSPACES_DIR": "workspaces"}
    environment = {**os.environ, **{name: str(tmp_path / folder) for name, folder in folders.items()}}
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--expose-app-in-browser", "--LabApp.news_url=None"]
    command += ["--allow-root", "--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}", "--ServerApp.port_retries=0"]
    command += [f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={tmp_path / 'notebooks'}"]
    with (tmp_path / "lab.log").open("w", encoding="utf-8") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT, cwd=tmp_path)
        try:
            address = f"http://127.0.0.1:{port}"
            _wait_until_up(f"{address}/api?token={token}", server, tmp_path / "lab.log")
            yield lambda path: f"{address}/lab/workspaces/test/tree/{path}?reset&token={token}"
        finally:
            server.terminate()
            try:
                server.wait(30)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait(10)


def _wait_until_up(url: str, server: subprocess.Popen, log: Path, limit_s: float = 120) -> None:
    for _ in range(int(limit_s)):
        assert server.poll() is None, log.read_text(encoding="utf-8")
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(1)
    pytest.fail(f"JupyterLab did not answer within {limit_s:g} s: {log.read_text(encoding='utf-8')[-2000:]}")


def _page(browser, address: str):
    """A notebook, open, with a kernel."""
    page = browser.new_page(viewport={"width": 1280, "height": 1000})
    page.set_default_timeout(120_000)
    page.goto(address)
    page.wait_for_function(READY)
    return page


def _scroll_to_explorer(page) -> None:
    """Cells outside the window are not drawn: go to the first one whose output is a widget."""
    page.evaluate(
        f"""() => {{
            const cells = {NOTEBOOK}.content.widgets;
            const shows = cell => cell.model.type === 'code' && cell.model.outputs.toJSON().some(
                output => output.data && output.data['application/vnd.jupyter.widget-view+json']);
            {NOTEBOOK}.content.scrollToItem(cells.findIndex(shows), 'start');
        }}"""
    )


@pytest.mark.parametrize("name", RUN_WHOLE)
def test_a_notebook_in_a_browser(jupyterlab, browser, name):
    page = _page(browser, jupyterlab(f"{name}.ipynb"))
    page.evaluate(CLEAR)  # the committed numbers, so that what follows is this run
    page.evaluate("() => jupyterapp.commands.execute('notebook:run-all-cells')")
    page.wait_for_function(ALL_RUN, timeout=RUN_LIMIT_MS)
    assert page.evaluate(ERRORS) == []

    _scroll_to_explorer(page)
    handle = page.locator(".widget-slider .noUi-handle").first
    picture, numbers = page.locator("img.widget-image").first, page.locator(".widget-html-content").first
    handle.wait_for()
    before, said = picture.get_attribute("src"), numbers.inner_text()
    handle.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("src => document.querySelector('img.widget-image').src !== src", arg=before)
    assert numbers.inner_text() != said
    label = page.locator(".widget-slider .widget-label").first
    assert label.evaluate("node => node.scrollWidth <= node.clientWidth")  # not clipped

    page.evaluate("() => jupyterapp.commands.execute('docmanager:save')")
    page.wait_for_function(f"() => !{NOTEBOOK}.model.dirty")
    page.evaluate(f"() => {NOTEBOOK}.sessionContext.shutdown()")
    page.close()
    page = _page(browser, jupyterlab(f"{name}.ipynb"))  # a new kernel that has run nothing
    _scroll_to_explorer(page)
    shown = page.locator(".jp-OutputArea-output img").first
    shown.wait_for()
    assert shown.evaluate("image => image.naturalWidth > 300")
    page.close()
