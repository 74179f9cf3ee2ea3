"""What every notebook of the course keeps to, whatever it teaches (nbval runs them in `make test`)."""

import json
import re
from pathlib import Path

import pytest

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
COURSE = sorted(NOTEBOOKS.glob("*.ipynb"))
SCREEN = 30  # lines that fit on one


def cells(path: Path, kind: str) -> list[dict]:
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == kind]


def source(cell: dict) -> str:
    return "".join(cell["source"])


@pytest.fixture(params=COURSE, ids=lambda path: path.stem)
def notebook(request):
    return request.param


def test_a_notebook_is_executed_in_order_and_small(notebook):
    code = cells(notebook, "code")
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert notebook.stat().st_size < 1_000_000
    assert not [cell for cell in code if "execution" in cell["metadata"]]  # times of day: a diff at every run


def test_only_exercises_show_errors(notebook):
    for cell in cells(notebook, "code"):
        failed = any(output["output_type"] == "error" for output in cell["outputs"])
        assert failed == ("raises-exception" in cell["metadata"].get("tags", [])), source(cell)


def test_no_cell_is_longer_than_a_screen(notebook):
    for cell in cells(notebook, "code"):
        assert len(source(cell).splitlines()) <= SCREEN, source(cell)


def test_every_figure_has_its_text(notebook):
    """After a cell that shows a picture, the next text cell begins with what is to be seen in it."""
    following = json.loads(notebook.read_text())["cells"]
    for cell, after in zip(following, following[1:], strict=False):
        pictures = [
            output for output in cell.get("outputs", []) if {"image/png", "image/jpeg"} & {*output.get("data", {})}
        ]
        if pictures:
            assert after["cell_type"] == "markdown" and "Alt text" in source(after), source(cell)


def test_the_first_screen_says_what_and_how_long(notebook):
    text = source(cells(notebook, "markdown")[0])
    assert text.startswith(f"# {notebook.stem[:2]} ") and "minutes" in text and "CPU" in text


def test_every_exercise_has_a_solution(notebook):
    stubs = [cell for cell in cells(notebook, "code") if "raises-exception" in cell["metadata"].get("tags", [])]
    assert 2 <= len(stubs) <= 4 or notebook.stem.startswith("00")
    if not stubs:
        return
    solution = NOTEBOOKS / "solutions" / notebook.name
    solved = [source(cell) for cell in cells(solution, "code")]
    for stub in stubs:
        (check,) = [line for line in source(stub).splitlines() if line.startswith("checks.")]
        assert any(check in cell for cell in solved), check
        assert not any(
            output["output_type"] == "error" for cell in cells(solution, "code") for output in cell["outputs"]
        )


def test_no_traceback_is_saved_with_a_folder_of_the_author(notebook):
    assert not re.search(r"/(home|root|tmp|Users|work)/", notebook.read_text())
