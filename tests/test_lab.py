"""Opening the course, and projecting it."""

import json
import subprocess
import sys
from types import SimpleNamespace

import pytest

from rslab.errors import WorkError
from rslab.lectures import lab


@pytest.fixture
def started(monkeypatch):
    """What JupyterLab would have been started with; `look` may inspect the folders while they exist."""
    seen = SimpleNamespace(look=lambda command, env: None)

    def run(command, env):
        seen.command, seen.environment = command, env
        seen.look(command, env)
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(lab.subprocess, "run", run)
    return seen


def test_lab_opens_the_course_on_the_loopback_and_says_where(started, capsys):
    assert lab.open_lab(browser=False) == 0
    assert f"--notebook-dir={lab.COURSE}" in started.command and "--ip=127.0.0.1" in started.command
    assert "--no-browser" in started.command and not [part for part in started.command if "token" in part]
    assert started.environment["PYTHONSTARTUP"].endswith("notebook_startup.py")
    assert str(lab.COURSE) in capsys.readouterr().out


def test_a_projected_course_is_a_copy_with_hidden_code_but_open_exercises(started):
    def look(command, env):
        (option,) = [part for part in command if part.startswith("--notebook-dir=")]
        folder = option.partition("=")[2]
        assert folder != str(lab.COURSE)
        text = (lab.Path(folder) / "02_randomized_smoothing.ipynb").read_text()
        cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
        hidden = [cell["metadata"].get("jupyter", {}).get("source_hidden", False) for cell in cells]
        stubs = ["raises-exception" in cell["metadata"].get("tags", []) for cell in cells]
        assert hidden == [not stub for stub in stubs] and any(stubs) and any(hidden)
        settings = lab.Path(env["JUPYTERLAB_SETTINGS_DIR"]) / "@jupyterlab" / "apputils-extension"
        assert json.loads((settings / "themes.jupyterlab-settings").read_text())["overrides"]
        started.folder = lab.Path(folder)

    started.look = look
    before = (lab.COURSE / "02_randomized_smoothing.ipynb").read_bytes()
    assert lab.open_lab(browser=False, present=True) == 0
    assert not started.folder.exists()
    assert (lab.COURSE / "02_randomized_smoothing.ipynb").read_bytes() == before


def test_without_the_clone_there_is_no_course(monkeypatch, tmp_path):
    monkeypatch.setattr(lab, "COURSE", tmp_path / "notebooks")
    with pytest.raises(WorkError, match="^The course is not at"):
        lab.open_lab()


def test_a_name_that_is_not_there_yet_is_explained_without_a_traceback():
    program = f"""
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell()
exec(compile(open({str(lab.STARTUP)!r}).read(), "startup", "exec"), dict(get_ipython=lambda: shell))
shell.run_cell("digits.images[3]")
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert "`digits` is not defined yet" in result.stdout and "Traceback" not in result.stdout + result.stderr


def test_plain_python_runs_the_startup_file_in_silence():
    result = subprocess.run([sys.executable, lab.STARTUP], capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
