"""What every notebook of the course keeps to, whatever it teaches (nbval runs them in `make test`)."""

import json
import re
from pathlib import Path

import pytest

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
COURSE = sorted(NOTEBOOKS.glob("*.ipynb"))
pytestmark = pytest.mark.author
SCREEN = 30  # lines that fit on one


def cells(path: Path, kind: str) -> list[dict]:
    return [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == kind]


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


CAPTION = re.compile(r"\*(?!\*)[^*]{10,260}\*(\n\n|$)")


def test_every_picture_is_described_and_has_a_caption(notebook):
    """The full description is attached to the picture; the text below begins with a caption of a line or two."""
    following = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    for cell, after in zip(following, following[1:], strict=False):
        pictures = [
            (kind, output)
            for output in cell.get("outputs", [])
            for kind in {"image/png", "image/jpeg"} & {*output.get("data", {})}
        ]
        for kind, output in pictures:
            assert len(output["metadata"].get(kind, {}).get("alt", "")) > 40, source(cell)
        if pictures:
            assert after["cell_type"] == "markdown" and CAPTION.match(source(after)), source(cell)


def test_the_first_screen_says_what_and_how_long(notebook):
    text = source(cells(notebook, "markdown")[0])
    assert text.startswith(f"# {notebook.stem[:2]} ") and "minutes" in text and "CPU" in text


def test_every_exercise_has_a_solution(notebook):
    stubs = [cell for cell in cells(notebook, "code") if "raises-exception" in cell["metadata"].get("tags", [])]
    assert 2 <= len(stubs) <= 4 or notebook.stem.startswith(("00", "06", "08"))  # 06 and 08 end in something built
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
    assert not re.search(r"/(home|root|tmp|Users|work)/", notebook.read_text(encoding="utf-8"))


def exercises(path: Path) -> list[tuple[str, str, str, int]]:
    """(number, title, difficulty, minutes) of each exercise of a notebook."""
    pattern = r"^### Exercise (\d+) · (.+?)  \((easy|medium|hard), (\d+) minutes\)$"
    found = re.findall(pattern, "\n".join(source(cell) for cell in cells(path, "markdown")), re.MULTILINE)
    return [(number, title, difficulty, int(minutes)) for number, title, difficulty, minutes in found]


def minutes_on_the_first_screen(path: Path) -> tuple[str, str]:
    text = source(cells(path, "markdown")[0])
    (promised,) = re.findall(r"(\d+) minutes to read and play, (\d+) minutes of exercises", text)
    return promised


def test_every_exercise_says_how_hard_and_how_long_and_the_first_screen_adds_them_up(notebook):
    stubs = [cell for cell in cells(notebook, "code") if "raises-exception" in cell["metadata"].get("tags", [])]
    assert [number for number, *_ in exercises(notebook)] == [str(k + 1) for k in range(len(stubs))]
    _, promised = minutes_on_the_first_screen(notebook)
    assert sum(minutes for *_, minutes in exercises(notebook)) == int(promised)


def test_the_front_page_and_the_teachers_page_say_the_same_as_the_notebook(notebook):
    reading, solving = minutes_on_the_first_screen(notebook)
    teachers = (NOTEBOOKS / "for_teachers.md").read_text(encoding="utf-8")
    assert re.search(rf"^\| {notebook.stem[:2]} [^|]+\| {reading} min \| {solving} min \|", teachers, re.MULTILINE)
    for number, title, difficulty, minutes in exercises(notebook):
        assert f"| {notebook.stem[:2]} · {number} | {title} | {difficulty}, {minutes} min |" in teachers, title
    if not notebook.stem.startswith("00"):
        front = "\n".join(source(cell) for cell in cells(NOTEBOOKS / "00_start_here.ipynb", "markdown"))
        assert re.search(rf"^\| `{notebook.stem[:2]}` [^\n]*\| {reading} \+ {solving} min \|", front, re.MULTILINE)
