"""Opening the course in JupyterLab: for a reader, or on a projector."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from rslab.errors import WorkError

COURSE = Path(__file__).resolve().parents[2] / "notebooks"
STARTUP = Path(__file__).parent / "notebook_startup.py"

# JupyterLab's own settings, for a projector: letters that the last row can read.
LARGE_LETTERS = (
    '{"theme-scrollbars": false, "overrides": '
    '{"content-font-size1": "20px", "code-font-size": "18px", "ui-font-size1": "16px"}}'
)


def course_folder() -> Path:
    """The folder of the notebooks; `WorkError` where rslab was installed without its clone."""
    if not COURSE.is_dir():
        raise WorkError(f"The course is not at {COURSE}, expected rslab installed by `pip install -e .` in its clone.")
    return COURSE


def open_lab(browser: bool = True, present: bool = False) -> int:
    """Run JupyterLab on this computer only, with its token, until it is stopped; its exit code.

    `present`: on a copy of the course with the code hidden (a click on a cell's bar shows
    it) and large letters. The copy is deleted afterwards: nothing that is typed there stays.
    """
    course, environment = course_folder(), {**os.environ, "PYTHONSTARTUP": str(STARTUP)}
    with tempfile.TemporaryDirectory(prefix="rslab-present-") as folder:
        if present:
            course = _projected(course, Path(folder) / "notebooks")
            settings = Path(folder) / "settings" / "@jupyterlab" / "apputils-extension"
            settings.mkdir(parents=True)
            (settings / "themes.jupyterlab-settings").write_text(LARGE_LETTERS)
            environment["JUPYTERLAB_SETTINGS_DIR"] = str(Path(folder) / "settings")
        print(f"Course folder: {course}\nJupyterLab prints its address below; stop it with Ctrl-C.", flush=True)
        command = [sys.executable, "-m", "jupyterlab", f"--notebook-dir={course}", "--ip=127.0.0.1"]
        command += ["--LabApp.news_url=None", *([] if browser else ["--no-browser"])]
        try:
            return subprocess.run(command, env=environment).returncode
        except KeyboardInterrupt:
            return 0


def _projected(course: Path, copy: Path) -> Path:
    """A copy of the notebooks in which a code cell shows its output only, but for the exercises."""
    shutil.copytree(course, copy, ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    for path in sorted(copy.rglob("*.ipynb")):
        notebook = json.loads(path.read_text(encoding="utf-8"))
        for cell in notebook["cells"]:
            exercise = "raises-exception" in cell["metadata"].get("tags", [])
            if cell["cell_type"] == "code" and not exercise:
                cell["metadata"].setdefault("jupyter", {})["source_hidden"] = True
        path.write_text(json.dumps(notebook), encoding="utf-8")
    return copy
