"""A learner's copy of the course: half of the exercises solved and saved, cells added, the solutions taken away.

What a reader checks passes there, what an author checks does not.
"""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.author  # the solutions are read here


def source(cell: dict) -> str:
    return "".join(cell["source"])


def is_exercise(cell: dict) -> bool:
    return "raises-exception" in cell["metadata"].get("tags", [])


def check(cell: dict) -> str:
    """The line of an exercise that calls its check."""
    (line,) = re.findall(r"^checks\..*$", source(cell), re.MULTILINE)
    return line


def work_on(path: Path, solutions: Path) -> None:
    """Solve every second exercise, run the cells in some order, add cells, and save."""
    notebook, solved = (json.loads(file.read_text(encoding="utf-8")) for file in (path, solutions / path.name))
    answers = [source(cell) for cell in solved["cells"] if cell["cell_type"] == "code"]
    for exercise in [cell for cell in notebook["cells"] if is_exercise(cell)][::2]:
        exercise["source"] = next(answer for answer in answers if check(exercise) in answer)
        exercise["outputs"] = [{"output_type": "stream", "name": "stdout", "text": "✓ Right.\n"}]
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    for count, cell in enumerate(reversed(code)):
        cell["execution_count"] = 2 * count + 7
    code[-1]["outputs"] = [{"output_type": "stream", "name": "stderr", "text": "of another run\n"}]
    for text in ("1 + 1", "", "# to do: ask about this"):
        scratch = {"id": f"scratch-{len(notebook['cells'])}", "cell_type": "code", "source": text}
        notebook["cells"].append(scratch | {"metadata": {}, "execution_count": None, "outputs": []})
    path.write_text(json.dumps(notebook), encoding="utf-8")


def clear(path: Path) -> None:
    """As JupyterLab's Clear Outputs of All Cells."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            cell["execution_count"], cell["outputs"] = None, []
    path.write_text(json.dumps(notebook), encoding="utf-8")


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Path:
    """The learner's folder, which is no clone; its name has blanks and letters beyond ASCII."""
    folder = tmp_path_factory.mktemp("copy") / "Übung 3 – Kurs"
    ours = {"rslab", "tests", "notebooks", "docs", "pyproject.toml", "Makefile", "README.md", "environment.yml"}
    unseen = shutil.ignore_patterns(".*", "__pycache__")
    folder.mkdir()
    for name in sorted(ours):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=unseen)
        else:
            shutil.copy(ROOT / name, folder / name)
    notebooks = folder / "notebooks"
    for path in sorted(notebooks.glob("*.ipynb")):
        work_on(path, notebooks / "solutions")
    clear(notebooks / "02_randomized_smoothing.ipynb")
    shutil.rmtree(notebooks / "solutions")
    (notebooks / "for_teachers.md").write_text("Homework is due on Monday.\n", encoding="utf-8")
    return folder


def pytest_in(folder: Path, *words: str) -> subprocess.CompletedProcess:
    """pytest on the package and the notebooks of that folder, not on ours."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, encoding="utf-8", errors="replace", timeout=600)


def test_what_a_reader_checks_of_the_course_passes(copy):
    """Every module of tests that opens the notebooks; the others cannot tell the copy from the course."""
    files = sorted((copy / "tests").glob("test_*.py"))
    chosen = [
        file
        for file in files
        if re.search(r'"notebooks"|COURSE|course_folder|\.ipynb', file.read_text(encoding="utf-8"))
    ]
    result = pytest_in(copy, *(f"tests/{file.name}" for file in chosen))
    assert result.returncode == 0, result.stdout


def options_of_make_test(folder: Path) -> list[str]:
    """What `make test` gives to pytest for the notebooks."""
    plan = subprocess.run(["make", "-n", "test"], cwd=folder, capture_output=True, encoding="utf-8").stdout
    (options,) = re.findall(r"-m pytest (--nbval.*?) notebooks", plan)
    return options.split()


def test_the_cells_of_a_reader_run(copy):
    result = pytest_in(copy, *options_of_make_test(copy), "notebooks/00_start_here.ipynb")
    assert result.returncode == 0 and re.search(r"\d\d passed", result.stdout), result.stdout


def test_a_cell_of_a_reader_that_fails_is_said(copy):
    path = copy / "notebooks" / "of mine.ipynb"
    cell = {"id": "a", "cell_type": "code", "source": "1 / 0", "metadata": {}, "execution_count": 1, "outputs": []}
    path.write_text(json.dumps({"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}), encoding="utf-8")
    result = pytest_in(copy, *options_of_make_test(copy), str(path))
    assert result.returncode == 1 and "ZeroDivisionError" in result.stdout


def test_an_author_is_told_that_the_notebooks_are_not_those_to_be_handed_out(copy):
    result = pytest_in(copy, "-m", "author", "tests/test_notebooks.py")
    assert result.returncode == 1
    for rule in ("in_order", "only_exercises_show_errors", "solution", "teachers_page"):
        assert re.search(rf"^FAILED tests/test_notebooks.py::test_\w*{rule}", result.stdout, re.MULTILINE), rule
