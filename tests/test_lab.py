"""Opening the course: which folder, in which copy, with which kernel and options; and projecting it."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from rslab.errors import InputError, WorkError
from rslab.lectures import course, lab


@pytest.fixture
def started(monkeypatch, tmp_path):
    """What JupyterLab would have been started with; `look` may inspect the folders while they exist."""
    seen = SimpleNamespace(look=lambda arguments, environment: None)

    def run(arguments, environment):
        seen.arguments, seen.environment = arguments, environment
        (option,) = [word for word in arguments if word.startswith("--notebook-dir=")]
        seen.folder = Path(option.partition("=")[2])
        seen.look(arguments, environment)
        return 0

    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    home.mkdir()
    elsewhere.mkdir()
    for variable in ("JUPYTER_PATH", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "PYTHONPATH"):
        monkeypatch.delenv(variable, raising=False)
    for variable in ("IPYTHONDIR", "MPLCONFIGDIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setattr(lab, "_run", run)
    monkeypatch.chdir(elsewhere)
    return seen


@pytest.fixture
def last_years(tmp_path) -> Path:
    """Another kit: two notebooks and a package."""
    kit = tmp_path / "last year's"
    (kit / "notebooks" / "solutions").mkdir(parents=True)
    for name in ("00_start_here.ipynb", "solutions/00_start_here.ipynb"):
        (kit / "notebooks" / name).write_bytes((lab.COURSE / "00_start_here.ipynb").read_bytes())
    (kit / "rslab").mkdir()
    (kit / "rslab" / "__init__.py").write_text('__version__ = "0.0.9"\n', encoding="utf-8")
    return kit


def unwritable(monkeypatch, *folders: Path) -> None:
    """Let these be on a file system that is read-only."""
    really = course.why_not_writable

    def why(folder: Path) -> str:
        return "Read-only file system" if any(folder.is_relative_to(other) for other in folders) else really(folder)

    monkeypatch.setattr(lab, "why_not_writable", why)


def test_lab_opens_the_course_on_the_loopback_and_says_where(started, capsys):
    assert lab.open_lab(browser=False) == 0
    assert started.folder == lab.COURSE and "--ip=127.0.0.1" in started.arguments
    assert "--no-browser" in started.arguments and not [word for word in started.arguments if "token" in word]
    assert started.environment["PYTHONSTARTUP"].endswith("notebook_startup.py")
    assert started.environment.keys() == {"JUPYTER_PATH", "PYTHONPATH", "PYTHONSTARTUP"}
    out = capsys.readouterr().out.splitlines()
    assert out == [f"Course folder: {lab.COURSE}", "JupyterLab prints its address below; stop it with Ctrl-C."]


# -- which folder ----------------------------------------------------------------------------


@pytest.mark.parametrize("below", [".", "notebooks", "notebooks/solutions"])
def test_lab_opens_the_kit_in_which_it_was_called(started, last_years, monkeypatch, capsys, below):
    monkeypatch.chdir(last_years / below)
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    lab.open_lab()
    assert started.folder == last_years / "notebooks"
    assert started.environment["PYTHONPATH"] == os.pathsep.join([str(last_years), "/somewhere"])
    assert Path(started.environment["PYTHONSTARTUP"]).is_file()
    out = capsys.readouterr().out
    assert f"everything else is of another folder's environment, {sys.prefix}: `make lab` in {last_years}" in out


def test_lab_in_the_installed_kit_says_nothing_of_another(started, monkeypatch, capsys):
    monkeypatch.chdir(lab.COURSE)
    lab.open_lab()
    assert started.folder == lab.COURSE and "another" not in capsys.readouterr().out


def test_without_the_clone_there_is_no_course(started, monkeypatch, tmp_path, last_years):
    monkeypatch.setattr(lab, "COURSE", tmp_path / "notebooks")
    with pytest.raises(WorkError, match="^The course is not at"):
        lab.open_lab()
    monkeypatch.chdir(last_years)  # but here is one
    assert lab.open_lab() == 0 and started.folder == last_years / "notebooks"


# -- a copy to work in -----------------------------------------------------------------------


def test_work_is_a_copy_that_is_made_once(started, tmp_path, capsys):
    folder = tmp_path / "deep" / "mine"
    lab.open_lab(work=folder)
    assert started.folder == folder
    names = {path.relative_to(lab.COURSE) for path in lab.COURSE.rglob("*.ipynb") if "checkpoints" not in str(path)}
    assert names == {path.relative_to(folder) for path in folder.rglob("*.ipynb")}
    assert names >= {Path("00_start_here.ipynb"), Path("08_beyond.ipynb")}
    assert not [path for path in folder.rglob(".*") if path.name != course.MARK]

    (folder / "00_start_here.ipynb").write_text("mine", encoding="utf-8")
    (folder / "08_beyond.ipynb").unlink()
    lab.open_lab(work=folder)
    assert (folder / "00_start_here.ipynb").read_text(encoding="utf-8") == "mine"
    assert not (folder / "08_beyond.ipynb").exists()  # the reader's own choice
    assert "version" not in capsys.readouterr().out


def test_lab_called_in_a_copy_opens_it(started, tmp_path, monkeypatch):
    lab.open_lab(work=tmp_path / "mine")
    started.folder = None
    monkeypatch.chdir(tmp_path / "mine")
    lab.open_lab()
    assert started.folder == tmp_path / "mine"
    assert started.environment["PYTHONPATH"] == str(lab.COURSE.parent)


def test_a_copy_of_another_version_is_opened_and_said(started, tmp_path, monkeypatch, last_years, capsys):
    monkeypatch.chdir(last_years)
    lab.open_lab(work=tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    lab.open_lab(work=tmp_path / "mine")
    assert started.folder == tmp_path / "mine" and not (tmp_path / "mine" / "01_adversarial_examples.ipynb").exists()
    assert "This copy was made of version 0.0.9, the kit is version " in capsys.readouterr().out


@pytest.mark.parametrize("text", ["", "[]", '{"version": "0.1.0"}', "\x00"])
def test_a_damaged_mark_of_a_copy_is_one_sentence(started, tmp_path, text):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / course.MARK).write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match="got no version and completeness"):
        lab.open_lab(work=folder)
    assert [file.name for file in folder.iterdir()] == [course.MARK]


def test_a_copy_that_was_interrupted_is_completed(started, tmp_path, monkeypatch):
    folder, whole = tmp_path / "mine", course.shutil.copyfile

    def full(source, target):
        if "03" in target.name:
            target.write_bytes(b"half")
            raise OSError(28, "No space left on device", str(target))
        return whole(source, target)

    monkeypatch.setattr(course.shutil, "copyfile", full)
    with pytest.raises(WorkError, match="could not be written .*No space left"):
        lab.open_lab(work=folder)
    assert not (folder / "03_steins_lemma.ipynb").exists()
    (folder / "00_start_here.ipynb").write_text("mine", encoding="utf-8")
    monkeypatch.setattr(course.shutil, "copyfile", whole)
    lab.open_lab(work=folder)
    assert (folder / "03_steins_lemma.ipynb").read_bytes() == (lab.COURSE / "03_steins_lemma.ipynb").read_bytes()
    assert (folder / "00_start_here.ipynb").read_text(encoding="utf-8") == "mine"
    assert not [path for path in folder.rglob(".*") if path.name != course.MARK]


def test_a_folder_that_holds_something_else_is_left_alone(started, tmp_path):
    (tmp_path / "diary").mkdir()
    (tmp_path / "diary" / "2024.txt").write_text("dear", encoding="utf-8")
    for place in (tmp_path / "diary", tmp_path / "diary" / "2024.txt", lab.COURSE):
        with pytest.raises(InputError, match="^work: got .*, which holds something else, expected a new folder"):
            lab.open_lab(work=place)
    assert [path.name for path in (tmp_path / "diary").iterdir()] == ["2024.txt"]


def test_a_course_that_cannot_be_written_is_worked_on_in_the_home(started, monkeypatch, tmp_path, capsys):
    unwritable(monkeypatch, lab.COURSE)
    lab.open_lab()
    assert started.folder == tmp_path / "home" / "rslab-course" and (started.folder / "08_beyond.ipynb").is_file()
    assert "cannot be written (Read-only file system): this is your own copy" in capsys.readouterr().out


def test_where_nothing_can_be_written_the_course_is_shown(started, monkeypatch, tmp_path, capsys):
    unwritable(monkeypatch, lab.COURSE, tmp_path / "home")
    lab.open_lab()
    assert started.folder == lab.COURSE
    assert "nothing can be saved; `rslab lab --work DIR` works" in capsys.readouterr().out


# -- a home that cannot be written -----------------------------------------------------------


@pytest.mark.parametrize("home", ["a file", "nothing"])
def test_without_a_home_jupyter_writes_in_a_folder_that_goes_at_the_end(started, monkeypatch, tmp_path, capsys, home):
    (tmp_path / "a file").write_text("", encoding="utf-8")
    monkeypatch.setenv("HOME", str(tmp_path / "a file") if home == "a file" else "/proc/nobody")
    started.look = lambda _, environment: seen.update(
        {name: Path(place) for name, place in environment.items() if name not in ("PYTHONPATH", "PYTHONSTARTUP")}
    )
    seen: dict[str, Path] = {}
    lab.open_lab()
    written = {"JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR", "MPLCONFIGDIR"}
    assert seen.keys() == {*written, "JUPYTER_PATH"}
    assert not any(seen[name].exists() for name in written)
    assert capsys.readouterr().out.count("cannot be written") == 1


def test_one_folder_that_cannot_be_written_is_replaced_alone(started, monkeypatch, tmp_path):
    unwritable(monkeypatch, tmp_path / "home" / ".cache")
    started.look = lambda _, environment: started.__setattr__("there", Path(environment["MPLCONFIGDIR"]).is_dir())
    lab.open_lab()
    assert started.there and "IPYTHONDIR" not in started.environment


def test_whether_a_folder_can_be_written_is_tried(tmp_path):
    assert course.why_not_writable(tmp_path / "not" / "yet") == "" and not list(tmp_path.iterdir())
    (tmp_path / "file").write_text("", encoding="utf-8")
    assert course.why_not_writable(tmp_path / "file")
    if Path("/dev/full").exists():
        assert course.why_not_writable(Path("/proc"))


# -- JupyterLab's options --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("root", "given", "allowed"),
    [
        (True, [], True),
        (True, ["--ip=::1"], True),
        (True, ["--ServerApp.ip", "localhost"], True),
        (True, ["--ip=0.0.0.0"], False),
        (True, ["--ip", "192.168.1.5"], False),
        (True, ["--ServerApp.ip=*"], False),
        (False, [], False),
    ],
)
def test_root_is_allowed_on_the_loopback_only(started, monkeypatch, root, given, allowed):
    monkeypatch.setattr(os, "geteuid", lambda: 0 if root else 1000, raising=False)
    lab.open_lab(arguments=given)
    assert ("--allow-root" in started.arguments) is allowed
    assert started.arguments[len(started.arguments) - len(given) :] == given
    assert sum(word.partition("=")[0] in ("--ip", "--ServerApp.ip") for word in started.arguments) == 1


def test_what_stands_after_the_dashes_goes_to_jupyterlab(started, monkeypatch, capsys):
    from rslab.cli import main

    monkeypatch.setattr(sys, "argv", ["rslab", "lab", "--no-browser", "--", "--port=9000", "--ip", "0.0.0.0", "--a b"])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 0
    assert started.arguments[-4:] == ["--port=9000", "--ip", "0.0.0.0", "--a b"] and "--no-browser" in started.arguments
    for words, sentence in [
        (
            ["--port=9000"],
            "lab: got '--port', expected an option that `rslab lab --help` shows; JupyterLab's own stand after --.",
        ),
        (["notes.ipynb"], "got 'notes.ipynb', expected no more words."),
    ]:
        monkeypatch.setattr(sys, "argv", ["rslab", "lab", *words])
        with pytest.raises(SystemExit) as stop:
            main()
        assert stop.value.code == 2 and sentence in capsys.readouterr().err


# -- a kernel, whatever the account has ------------------------------------------------------


def test_jupyter_finds_the_kits_kernel_first(started, monkeypatch, tmp_path):
    from jupyter_client.kernelspec import KernelSpecManager

    other = tmp_path / "kernels" / "python3"
    other.mkdir(parents=True)
    (other / "kernel.json").write_text(
        '{"argv": ["/bin/false"], "display_name": "?", "language": "r"}', encoding="utf-8"
    )
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "0")
    lab.open_lab()
    assert KernelSpecManager().get_kernel_spec("python3").argv == ["/bin/false"]
    monkeypatch.setenv("JUPYTER_PATH", started.environment["JUPYTER_PATH"])
    spec = KernelSpecManager().get_kernel_spec("python3")
    assert spec.argv[:3] == ["python", "-m", "ipykernel_launcher"] and spec.display_name == "Python 3 (ipykernel)"


# -- on a projector --------------------------------------------------------------------------


def test_a_projected_course_is_a_copy_with_hidden_code_but_open_exercises(started):
    def look(arguments, environment):
        assert started.folder != lab.COURSE
        text = (started.folder / "02_randomized_smoothing.ipynb").read_text(encoding="utf-8")
        cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
        hidden = [cell["metadata"].get("jupyter", {}).get("source_hidden", False) for cell in cells]
        stubs = ["raises-exception" in cell["metadata"].get("tags", []) for cell in cells]
        assert hidden == [not stub for stub in stubs] and any(stubs) and any(hidden)
        settings = Path(environment["JUPYTERLAB_SETTINGS_DIR"]) / "@jupyterlab" / "apputils-extension"
        text = (settings / "themes.jupyterlab-settings").read_text(encoding="utf-8")
        assert json.loads(text)["overrides"]

    started.look = look
    before = (lab.COURSE / "02_randomized_smoothing.ipynb").read_bytes()
    assert lab.open_lab(browser=False, present=True) == 0
    assert not started.folder.exists()
    assert (lab.COURSE / "02_randomized_smoothing.ipynb").read_bytes() == before


def test_a_disk_that_is_full_is_one_sentence(started, monkeypatch, capsys):
    from rslab.cli import main

    def full(source, target):
        raise OSError(28, "No space left on device", str(target))

    monkeypatch.setattr(course.shutil, "copyfile", full)
    monkeypatch.setattr(sys, "argv", ["rslab", "lab", "--present"])
    with pytest.raises(SystemExit) as stop:
        main()
    err = capsys.readouterr().err
    assert stop.value.code == 1 and err.count("\n") == 1 and err.endswith("(No space left on device).\n")


# -- kernels and signals ---------------------------------------------------------------------


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_signal_before_jupyterlab_serves_ends_the_command_and_deletes_its_folder(tmp_path, name):
    if not hasattr(signal, name):
        pytest.skip(f"no {name} here")
    program = f"""
import signal, sys, types
module = types.ModuleType("jupyterlab.labapp")
class LabApp:
    launch_instance = staticmethod(lambda words: signal.raise_signal(signal.{name}))
module.LabApp = LabApp
sys.modules["jupyterlab.labapp"] = module
sys.argv = ["rslab", "lab", "--present"]
from rslab.cli import main
main()
"""
    environment = {**os.environ, "TMPDIR": str(tmp_path), "HOME": str(tmp_path)}
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=60, env=environment)
    assert result.returncode == 143, result.stderr
    assert not list(tmp_path.glob("rslab-lab-*"))
