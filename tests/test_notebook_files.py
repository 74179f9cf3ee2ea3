"""What the authors keep the notebooks' files to, so that they work in every front end and on paper."""

import json
import re
from pathlib import Path

import pytest

import rslab

pytestmark = pytest.mark.author

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
FILES = sorted([*NOTEBOOKS.glob("*.ipynb"), *NOTEBOOKS.glob("solutions/*.ipynb")])


@pytest.fixture(params=FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def notebook(request) -> dict:
    return json.loads(request.param.read_text(encoding="utf-8"))


def code(notebook: dict) -> list[dict]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def source(cell: dict) -> str:
    return "".join(cell["source"])


def test_the_first_cell_is_the_same_everywhere_and_names_this_version(notebook):
    first = source(code(notebook)[0])
    reference = source(code(json.loads(FILES[0].read_text(encoding="utf-8")))[0])
    assert first == reference and len(first.splitlines()) <= 5
    assert first.endswith(f'\nkernel.begin(version="{rslab.__version__}")')


def test_the_cells_are_counted_from_one(notebook):
    assert [cell["execution_count"] for cell in code(notebook)] == list(range(1, len(code(notebook)) + 1))
    for cell in code(notebook):
        results = [output for output in cell["outputs"] if output["output_type"] == "execute_result"]
        assert all(output["execution_count"] == cell["execution_count"] for output in results)


def test_the_set_up_check_comes_before_any_other_import():
    checked = code(json.loads((NOTEBOOKS / "00_start_here.ipynb").read_text(encoding="utf-8")))[1]
    assert re.findall(r"^(?:from|import) .*", source(checked), re.MULTILINE) == [
        "from rslab.lectures.lecture00 import setup_check"
    ]


def test_no_state_of_widgets_is_stored(notebook):
    """An export to HTML would show it, a script from the web at best, in place of the picture."""
    assert "widgets" not in notebook["metadata"]


def test_every_heading_begins_a_cell_and_a_slide(notebook):
    kinds = {"# ": "slide", "## ": "slide", "### ": "subslide"}
    for cell in notebook["cells"]:
        heading = re.match(r"#{1,3} ", source(cell)) if cell["cell_type"] == "markdown" else None
        expected = {"slide_type": kinds[heading[0]]} if heading else None
        assert cell["metadata"].get("slideshow") == expected, source(cell)
        if cell["cell_type"] == "markdown":
            assert not re.search(r"\n#{1,3} ", source(cell)), source(cell)


def test_no_cell_writes_to_the_error_output(notebook):
    """A warning in a lecture is a riddle to its reader."""
    outputs = [output for cell in code(notebook) for output in cell["outputs"]]
    assert not [output["text"] for output in outputs if output.get("name") == "stderr"]
