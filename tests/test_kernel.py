"""The first cell of the notebooks: what it says where the kit is missing, and what it does to a kernel."""

import json
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from jupyter_client.manager import start_new_kernel
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

import rslab
from rslab.lectures import kernel

ROOT = Path(__file__).parent.parent
STARTUP = Path(kernel.__file__).with_name("notebook_startup.py")
NOTEBOOK = json.loads((ROOT / "notebooks" / "02_randomized_smoothing.ipynb").read_text(encoding="utf-8"))
FIRST_CELL = "".join(next(cell for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code")["source"])


def python(program: str, *path: Path, isolated: bool = False) -> subprocess.CompletedProcess:
    """Run a program elsewhere, with folders before all others on the path.

    isolated: without this environment's packages.
    """
    lines = "import sys\n" + "".join(f"sys.path.insert(0, {str(folder)!r})\n" for folder in path)
    command = [sys.executable, "-X", "utf8", *(["-I", "-S"] if isolated else []), "-c", lines + program]
    return subprocess.run(command, capture_output=True, encoding="utf-8", timeout=120, cwd=Path(sys.prefix))


# -- where the kit is not ------------------------------------------------------------------------


def assert_one_sentence(result: subprocess.CompletedProcess) -> None:
    assert result.returncode == 1
    assert "During handling" not in result.stderr and "direct cause" not in result.stderr
    *_, last = result.stderr.splitlines()
    assert last.startswith("ImportError: This kernel lacks the course; run `make lab`")


def test_a_kernel_without_the_kit_is_told_how_to_get_it():
    assert_one_sentence(python(FIRST_CELL, isolated=True))


def test_a_package_of_the_same_name_is_not_taken_for_the_course(tmp_path):
    (tmp_path / "rslab").mkdir()
    (tmp_path / "rslab" / "__init__.py").write_text('__version__ = "1.7.0"\n', encoding="utf-8")
    assert_one_sentence(python(FIRST_CELL, tmp_path))


def test_a_folder_of_the_same_name_is_not_taken_for_the_course(tmp_path):
    (tmp_path / "rslab").mkdir()  # a clone, beside the notebook
    assert_one_sentence(python(FIRST_CELL, tmp_path))


def test_a_file_of_the_learner_of_the_same_name_is_not_taken_for_the_course(tmp_path):
    (tmp_path / "rslab.py").write_text("answer = 42\n", encoding="utf-8")
    assert_one_sentence(python(FIRST_CELL, tmp_path))


def test_outside_ipython_the_first_cell_does_nothing():
    result = python(FIRST_CELL.replace(rslab.__version__, "0.0.9"), ROOT)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_it_imports_nothing_heavy():
    result = python(
        "import rslab.lectures.kernel\nprint(*sorted({*sys.modules} & {'IPython', 'torch', 'numpy'}))", ROOT
    )
    assert (result.returncode, result.stdout.strip()) == (0, "")


# -- in IPython ----------------------------------------------------------------------------------


def ipython(*cells: str) -> str:
    """What a shell prints for these cells, each followed by `[True]` or `[False]`: has it succeeded?"""
    program = f"""
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance(colors="nocolor")
for cell in {cells!r}:
    print([shell.run_cell(cell).success])
"""
    result = python(program, ROOT)
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout


def test_this_version_says_nothing_and_another_is_said_and_goes_on():
    assert ipython(FIRST_CELL) == "[True]\n"
    said = ipython(FIRST_CELL.replace(rslab.__version__, "0.0.9"))
    assert f"version 0.0.9 of the course, this kernel has rslab {rslab.__version__}" in said and said.endswith(
        "[True]\n"
    )


def test_a_missing_name_is_a_sentence_and_the_cell_has_failed():
    said = ipython(FIRST_CELL, "digits.images[3]", "def f(): return digits", "f()")
    assert said.count("✗ `digits` is not defined yet. If a cell above") == 2 and "Traceback" not in said
    assert [line for line in said.splitlines() if line[0] == "["] == ["[True]", "[False]", "[True]", "[False]"]


@pytest.mark.parametrize(
    "cell, words",
    [
        ("def f():\n    n += 1\nf()", "UnboundLocalError"),  # no cell above can mend it
        ("raise NameError('of my own')", "of my own"),
        ("import textwrap, types\nexec('def f(): return absent', textwrap.__dict__)\ntextwrap.f()", "'absent'"),
        ("1 / 0", "ZeroDivisionError"),
    ],
)
def test_any_other_error_keeps_its_traceback(cell, words):
    said = ipython(FIRST_CELL, cell)
    assert "Traceback" in said and words in said and "✗" not in said and said.endswith("[False]\n")


def test_a_stopped_training_is_one_sentence_and_the_next_cell_says_what_is_missing():
    training = """
import _thread, threading
from rslab import TrainConfig, load_dataset, train_to_end
config = TrainConfig(dataset="digits", method="gaussian", sigma=0.25, epochs=1000)
threading.Timer(1, _thread.interrupt_main).start()  # what a stop button does, in the middle of an epoch
model = train_to_end(config, data=load_dataset("digits", "train"))
"""
    said = ipython(FIRST_CELL, training, "model(1)").splitlines()
    assert said == ["[True]", kernel.STOPPED, "[False]", *said[3:]]
    assert said[3].startswith("✗ `model` is not defined yet") and said[4:] == ["[False]"]


def test_only_the_last_expression_of_a_cell_is_shown():
    shown = ipython("get_ipython().ast_node_interactivity = 'all'", FIRST_CELL, "'first'\n'last'")
    assert "'last'" in shown and "'first'" not in shown


def test_a_second_call_changes_nothing():
    assert ipython(FIRST_CELL, FIRST_CELL, "absent").count("✗") == 1


# -- in a kernel ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def client():
    manager, client = start_new_kernel(kernel_name="python3", env={**os.environ, "PYTHONSTARTUP": str(STARTUP)})
    yield client
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def execute(client, code: str, on_stream=lambda: None) -> tuple[dict, list[dict]]:
    """(reply, errors shown) of a cell; `on_stream` is called when it prints."""
    errors: list[dict] = []

    def hook(message):
        if message["msg_type"] == "error":
            errors.append(message["content"])
        elif message["msg_type"] == "stream":
            on_stream()

    return client.execute_interactive(code, output_hook=hook, timeout=60)["content"], errors


def test_the_startup_file_of_the_lab_explains_before_any_cell_was_run(client):
    reply, errors = execute(client, "digits")
    assert (reply["status"], reply["ename"]) == ("error", "NameError")
    assert [error["traceback"] for error in errors] == [reply["traceback"]]
    assert reply["traceback"][0].startswith("✗ `digits` is not defined yet")


def test_the_stop_button_gives_one_sentence(client):
    control = client.parent
    reply, errors = execute(client, "import time\nprint('begun')\ntime.sleep(60)", control.interrupt_kernel)
    assert (reply["status"], reply["ename"]) == ("error", "KeyboardInterrupt")
    assert [error["traceback"] for error in errors] == [[kernel.STOPPED]]
    assert execute(client, "1 + 1")[0]["status"] == "ok"


def test_a_tool_that_runs_all_cells_stops_at_a_missing_name():
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in (FIRST_CELL, "digits", "1")])
    with pytest.raises(CellExecutionError, match="✗ `digits` is not defined yet"):
        NotebookClient(notebook, timeout=60, kernel_name="python3").execute()
    assert notebook.cells[1].outputs[0].output_type == "error" and notebook.cells[2].execution_count is None


def test_plain_python_runs_the_startup_file_in_silence():
    result = subprocess.run([sys.executable, STARTUP], capture_output=True, encoding="utf-8", timeout=60)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_a_kernel_of_another_environment_runs_the_startup_file_in_silence():
    program = STARTUP.read_text(encoding="utf-8")
    result = python(program, isolated=True)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
