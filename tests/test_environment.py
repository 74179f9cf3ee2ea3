"""`.venv` is built, updated and mended by one script: copied and renamed folders, a stranger's rslab, no room, no pip.

Environments here are real ones without pip; a stand-in for pip writes down what it was asked and installs stubs.
"""

import ast
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = Path("rslab") / "machine" / "environment.py"
PIP = """
import os, pathlib, sys
here, words = pathlib.Path(__file__).parents[1], sys.argv[1:]
note = pathlib.Path(os.environ["STAND_IN"])
if words[:2] == ["cache", "dir"]:
    print(note.parent / "cache")
    sys.exit()
with note.open("a", encoding="utf-8") as file:
    print(*words, "TMPDIR=" + os.environ["TMPDIR"], "USER=" + os.environ["PIP_USER"], file=file)
if os.environ.get("PIP_FAILS", "nothing") in words:
    sys.exit("Collecting torch\\nERROR: it did not work")
kit = next((word for word in words if word.endswith("[test]")), "")
if "--index-url" in words or kit:
    print("Downloading somewhere/torch-9.whl (812.5 MB)")
    for name in ("torch", "torchvision"):
        (here / name).mkdir(exist_ok=True)
        (here / name / "__init__.py").touch()
    (here / ("torch-9+cpu.dist-info" if "--index-url" in words else "torch-9.dist-info")).mkdir(exist_ok=True)
if kit:
    (here / "kit.pth").write_text(kit.removesuffix("[test]"), encoding="utf-8")
    pathlib.Path(sys.executable).with_name("rslab").touch()
"""


class Kit:
    """A folder of the kit, as small as the script needs it, and what was asked of pip there."""

    def __init__(self, folder: Path, notes: Path):
        self.folder, self.notes = folder, notes
        self.venv, self.stamp = folder / ".venv", folder / ".venv" / "ready"

    @classmethod
    def new(cls, folder: Path, notes: Path) -> "Kit":
        for file in (
            SCRIPT,
            Path("pyproject.toml"),
            Path("Makefile"),
            Path("rslab/__init__.py"),
            Path("rslab/errors.py"),
        ):
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / file, folder / file)
        return cls(folder, notes)

    def module(self):
        """The script of this folder, whose new environments get the stand-in for pip."""
        spec = importlib.util.spec_from_file_location("environment", self.folder / SCRIPT)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)

        def make_venv():
            subprocess.run([sys.executable, "-m", "venv", "--clear", "--without-pip", self.venv], check=True)
            for name, text in (("__init__", ""), ("__main__", PIP)):
                file = self.packages() / "pip" / f"{name}.py"
                file.parent.mkdir(exist_ok=True)
                file.write_text(text, encoding="utf-8")

        module.real_make_venv, module.make_venv = module.make_venv, make_venv
        return module

    def packages(self) -> Path:
        """site-packages of the environment."""
        (found,) = [*self.venv.glob("lib/python*/site-packages"), *self.venv.glob("Lib/site-packages")][:1]
        return found

    def asked(self) -> list[str]:
        """What pip was asked since the last question, a line each."""
        lines = self.notes.read_text(encoding="utf-8").splitlines() if self.notes.exists() else []
        self.notes.unlink(missing_ok=True)
        return lines

    def edit(self, file: str, old: str, new: str) -> None:
        """Replace `old` in a file of the folder."""
        text = (self.folder / file).read_text(encoding="utf-8")
        assert old in text
        (self.folder / file).write_text(text.replace(old, new), encoding="utf-8")


@pytest.fixture
def notes(tmp_path, monkeypatch) -> Path:
    (tmp_path / "notes").mkdir()
    monkeypatch.setenv("STAND_IN", str(tmp_path / "notes" / "asked"))
    monkeypatch.setenv("PIP_USER", "1")  # as in some accounts; in an environment pip refuses it
    monkeypatch.setattr(shutil, "disk_usage", lambda place: shutil._ntuple_diskusage(10**11, 0, 10**11))
    return tmp_path / "notes" / "asked"


@pytest.fixture
def kit(tmp_path, notes, capsys) -> Kit:
    """A folder whose environment is ready."""
    made = Kit.new(tmp_path / "kit ü 1", notes)
    assert made.module().main([]) == 0
    capsys.readouterr()
    made.asked()
    return made


def test_it_is_read_by_old_pythons_and_needs_nothing_but_the_standard_library():
    tree = ast.parse((ROOT / SCRIPT).read_text(encoding="utf-8"), feature_version=(3, 6))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in imported} <= set(sys.stdlib_module_names)


def test_the_first_call_says_sizes_and_minutes_and_the_second_does_nothing(tmp_path, notes, capsys):
    kit = Kit.new(tmp_path / "kit", notes)
    assert kit.module().main([]) == 0
    out = capsys.readouterr().out
    assert "GB to download" in out and "GB on disk" in out and "minutes" in out and "torch-9.whl, 812.5 MB" in out
    uninstall, install = kit.asked()
    assert uninstall.startswith("uninstall --yes rslab ") and install.startswith(f"install -e {kit.folder}[test] ")
    assert "USER=0" in install
    assert kit.stamp.read_text(encoding="utf-8").splitlines()[0] == str(kit.folder)
    assert kit.module().main(["--quiet"]) == 0 and kit.asked() == [] and capsys.readouterr().out == ""
    assert kit.module().main([]) == 0 and str(kit.venv) in capsys.readouterr().out


@pytest.mark.parametrize("how", ["copied", "renamed"])
def test_a_folder_that_was_copied_or_renamed_builds_its_own(kit, capsys, how):
    other = kit.folder.with_name("this year's")
    if how == "copied":
        shutil.copytree(kit.folder, other, symlinks=True)
    else:
        kit.folder.rename(other)
    moved = Kit(other, kit.notes)
    module = moved.module()
    assert module.main(["--quiet"]) == 0
    out = capsys.readouterr().out
    assert f"The environment here belongs to {kit.folder}; building this folder's own." in out
    assert "GB to download" in out and len(moved.asked()) == 2
    assert module.probe()[0] == other / "rslab" / "__init__.py"
    assert moved.module().main(["--quiet"]) == 0 and moved.asked() == []
    if how == "copied":  # and the old folder keeps its own
        assert kit.module().main(["--quiet"]) == 0 and kit.asked() == []


def test_a_copy_of_an_environment_made_by_hand_is_noticed_too(kit, capsys):
    kit.stamp.unlink()  # `python -m venv .venv` and pip write none
    other = kit.folder.with_name("copy")
    shutil.copytree(kit.folder, other, symlinks=True)
    assert Kit(other, kit.notes).module().main([]) == 0
    assert f"belongs to {kit.folder};" in capsys.readouterr().out
    assert kit.module().main([]) == 0  # at home it is taken as it is, and brought up to date
    out = capsys.readouterr().out
    assert "up to date" in out and "GB to download" not in out


def test_the_same_folder_by_another_name_is_no_other(kit):
    alias = kit.folder.with_name("alias")
    alias.symlink_to(kit.folder)
    assert Kit(alias, kit.notes).module().main(["--quiet"]) == 0 and kit.asked() == []
    kit.stamp.write_text(kit.stamp.read_text(encoding="utf-8").replace(str(kit.folder), str(alias)), encoding="utf-8")
    assert kit.module().other_owner(None) == ""


def test_a_strangers_rslab_is_removed_and_the_course_put_back(kit, capsys):
    stranger = kit.packages() / "rslab"
    stranger.mkdir()
    (stranger / "__init__.py").write_text("solve = None\n", encoding="utf-8")
    assert kit.module().probe()[0] == stranger / "__init__.py"
    assert kit.module().main(["--quiet"]) == 0
    out = capsys.readouterr().out
    assert "`pip install rslab` brings another project's" in out and "GB to download" not in out
    uninstall, install = kit.asked()
    assert uninstall.startswith("uninstall --yes rslab ") and install.startswith("install -e ")
    assert kit.module().probe()[0] == kit.folder / "rslab" / "__init__.py"


def test_a_lost_command_is_put_back(kit):
    command = kit.module().BIN / "rslab"
    command.unlink()
    assert kit.module().main(["--quiet"]) == 0 and len(kit.asked()) == 2 and command.exists()


def test_new_requirements_are_installed_and_other_settings_are_not_waited_for(kit, capsys):
    kit.edit("pyproject.toml", "line-length = 120", "line-length = 100")
    assert kit.module().main(["--quiet"]) == 0 and kit.asked() == []
    kit.edit("pyproject.toml", '    "tqdm",\n', '    "tqdm",\n    "another",\n')
    assert kit.module().main(["--quiet"]) == 0 and len(kit.asked()) == 2
    assert "up to date with pyproject.toml" in capsys.readouterr().out


@pytest.mark.skipif(os.name == "nt", reason="an environment's Python is a link on POSIX systems")
def test_an_environment_whose_python_is_gone_is_built_anew(kit, capsys):
    python = kit.module().PYTHON
    python.unlink()
    python.symlink_to(kit.folder / "no such python")
    assert kit.module().main(["--quiet"]) == 0 and "Python is gone" in capsys.readouterr().out
    assert kit.module().probe()[0] == kit.folder / "rslab" / "__init__.py"


def free(monkeypatch, gigabytes: float, elsewhere: Path | None = None) -> None:
    """Let every file system have so much room, but one (`elsewhere`), which has none."""

    def usage(place):
        room = 0 if elsewhere and elsewhere in (Path(place), *Path(place).parents) else gigabytes * 1e9
        return shutil._ntuple_diskusage(10**12, 0, int(room))

    monkeypatch.setattr(shutil, "disk_usage", usage)


@pytest.mark.skipif(sys.platform != "linux", reason="the sizes of Linux")
@pytest.mark.parametrize("gigabytes, words, passes", [(5, [], False), (5, ["--cpu"], True), (20, [], True)])
def test_room_is_looked_at_before_anything_is_downloaded(
    tmp_path, notes, capsys, monkeypatch, gigabytes, words, passes
):
    free(monkeypatch, gigabytes)
    kit = Kit.new(tmp_path / "kit", notes)
    assert kit.module().main(words) == (0 if passes else 1)
    asked, err = kit.asked(), capsys.readouterr().err
    if passes:
        assert asked and err == "" and not any("--no-cache-dir" in line for line in asked)
    else:
        assert asked == [] and not kit.stamp.exists() and err.count("\n") == 1
        for said in ("10.1 GB", "5.0 GB are free", "make CPU=1", "TMPDIR=", "Nothing was downloaded"):
            assert said in err
        free(monkeypatch, 11)  # room for all but the cache
        assert kit.module().main(words) == 0 and all("--no-cache-dir" in line for line in kit.asked()[1:])


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="a second file system: /dev/shm")
def test_a_full_temporary_folder_is_replaced_by_one_in_the_environment(tmp_path, notes, monkeypatch):
    if tmp_path.stat().st_dev == Path("/dev/shm").stat().st_dev:
        pytest.skip("the temporary folder is /dev/shm itself")
    free(monkeypatch, 50, elsewhere=Path("/dev/shm"))
    monkeypatch.setattr("tempfile.tempdir", "/dev/shm")
    kit = Kit.new(tmp_path / "kit", notes)
    module = kit.module()
    assert module.main([]) == 0
    assert all(f"TMPDIR={kit.venv}" in line for line in kit.asked())
    assert not [entry for entry in kit.venv.iterdir() if entry.name.startswith("tmp")]


def test_a_python_that_does_not_fit_ends_in_a_sentence(tmp_path, notes):
    kit = Kit.new(tmp_path / "kit", notes)
    limits = f'requires-python = ">=3.{sys.version_info[1] + 1},<3.{sys.version_info[1] + 4}"'
    (line,) = [
        line
        for line in (ROOT / "pyproject.toml").read_text(encoding="utf-8").splitlines()
        if line.startswith("requires-python")
    ]
    kit.edit("pyproject.toml", line, limits)
    ended = subprocess.run([sys.executable, kit.folder / SCRIPT], capture_output=True, encoding="utf-8")
    low, high, suggested = (sys.version_info[1] + more for more in (1, 3, 2))
    assert ended.returncode == 1 and ended.stderr.count("\n") == 1
    assert ended.stderr.startswith(f"The course needs Python 3.{low} to 3.{high}, and {sys.executable} is ")
    assert f"make PYTHON=python3.{suggested}" in ended.stderr and not kit.venv.exists()


def test_a_python_without_ensurepip_names_the_package(tmp_path, notes, capsys, monkeypatch):
    kit = Kit.new(tmp_path / "kit", notes)
    module = kit.module()
    module.make_venv = module.real_make_venv
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert module.main([]) == 1
    assert f"sudo apt install python3.{sys.version_info[1]}-venv" in capsys.readouterr().err and not kit.venv.exists()


def test_a_venv_that_cannot_be_made_says_why(tmp_path, notes, capsys):
    kit = Kit.new(tmp_path / "kit", notes)
    kit.venv.write_text("a file", encoding="utf-8")
    module = kit.module()
    module.make_venv = module.real_make_venv
    assert module.main([]) == 1
    err = capsys.readouterr().err
    assert err.startswith(f"{kit.venv} cannot be made:") and "Traceback" not in err


def test_a_failed_or_stopped_installation_leaves_no_stamp_and_is_taken_up_again(tmp_path, notes, capsys, monkeypatch):
    kit = Kit.new(tmp_path / "kit", notes)
    monkeypatch.setenv("PIP_FAILS", "-e")
    assert kit.module().main([]) == 1 and not kit.stamp.exists()
    err = capsys.readouterr().err
    assert err.startswith("The installation failed.") and "ERROR: it did not work" in err and "Traceback" not in err
    monkeypatch.delenv("PIP_FAILS")

    def stopped(*_):
        raise KeyboardInterrupt

    module = kit.module()
    module.run_pip = stopped
    assert module.main([]) == 130 and not kit.stamp.exists()
    assert capsys.readouterr().err == "Stopped before the environment was ready; the same command goes on.\n"
    kit.asked()
    assert kit.module().main([]) == 0 and len(kit.asked()) == 2 and kit.stamp.exists()


def test_what_was_installed_and_does_not_load_is_not_ready(kit, capsys):
    kit.stamp.unlink()
    (kit.packages() / "torch" / "__init__.py").write_text("raise OSError('libgomp is missing')", encoding="utf-8")
    assert kit.module().main([]) == 1 and not kit.stamp.exists()
    assert "libgomp is missing" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the default build is the CPU build")
class TestCpuBuild:
    def test_it_comes_from_pytorchs_index_and_stays(self, tmp_path, notes, capsys):
        kit = Kit.new(tmp_path / "kit", notes)
        assert kit.module().main(["--cpu"]) == 0
        networks, uninstall, install = kit.asked()
        assert networks.startswith("install --index-url https://download.pytorch.org/whl/cpu torch>=2.6 torchvision ")
        assert uninstall.startswith("uninstall") and install.startswith("install -e ")
        assert "PyTorch's CPU build" in capsys.readouterr().out
        assert kit.module().main(["--cpu"]) == kit.module().main([]) == 0 and kit.asked() == []
        kit.edit("pyproject.toml", "torch>=2.6", "torch>=2.7")
        assert kit.module().main([]) == 0 and "torch>=2.7 torchvision" in kit.asked()[0]
        moved = Kit(kit.folder.rename(tmp_path / "moved"), notes)
        assert moved.module().main([]) == 0 and "--index-url" in moved.asked()[0]

    def test_a_default_build_is_replaced_when_it_is_asked_for(self, kit, capsys):
        assert kit.module().main(["--cpu"]) == 0
        assert "building it anew for the CPU" in capsys.readouterr().out and "--index-url" in kit.asked()[0]

    def test_an_index_that_is_not_reached_leaves_nothing_that_counts_as_ready(
        self, tmp_path, notes, capsys, monkeypatch
    ):
        kit = Kit.new(tmp_path / "kit", notes)
        monkeypatch.setenv("PIP_FAILS", "--index-url")
        assert kit.module().main(["--cpu"]) == 1 and not kit.stamp.exists()
        err = capsys.readouterr().err
        assert err.startswith("PyTorch's CPU build did not come from https://download.pytorch.org/whl/cpu;")
        assert "ERROR: it did not work" in err and len(kit.asked()) == 1
        assert kit.module().main([]) == 0 and not any("--index-url" in line for line in kit.asked())


def test_make_calls_it_first_and_goes_no_further_where_it_fails(tmp_path, notes):
    kit = Kit.new(tmp_path / "kit", notes)
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho "$@" >> "$STAND_IN"\nexit 3\n', encoding="utf-8")
    python.chmod(0o755)

    def make(*words):
        return subprocess.run(["make", *words], cwd=kit.folder, capture_output=True, encoding="utf-8")

    for words, expected in (((), "--quiet"), (("CPU=1",), "--quiet --cpu"), (("CPU=0",), "--quiet")):
        assert make(f"PYTHON={python}", "demo", *words).returncode == 2
        assert kit.asked() == [f"rslab/machine/environment.py {expected}"]
    missing = make("PYTHON=python3.99", "lab")
    assert missing.returncode == 2 and "There is no python3.99 here; name a Python" in missing.stdout
    binaries = kit.venv / "bin"  # once there is an environment, its own Python looks after it
    binaries.mkdir(parents=True)
    shutil.copy(python, binaries / "python")
    assert make("demo").returncode == 2 and len(kit.asked()) == 1
