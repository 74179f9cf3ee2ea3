"""Windows, as far as it can be imitated: code pages, what POSIX alone has, and paths with a drive letter."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from helpers import without_posix

from rslab import cli
from rslab.experiments import costs
from rslab.report.seeds import _recipe

RESULTS = Path(__file__).parent.parent / "rslab" / "results"

IMPORT_ALL = """
import importlib, pkgutil, rslab

for module in pkgutil.walk_packages(rslab.__path__, "rslab."):
    if module.name != "rslab.__main__":
        importlib.import_module(module.name)

from rslab.experiments import costs

assert costs.in_a_process(costs.process_peak, "cpu") > 0  # what `rslab bench cost` does
"""

# every help, and every command as short as it can be; the exit codes go to the error output
RUN_ALL = """
import sys, tomllib
from dataclasses import replace
from pathlib import Path

import rslab.cli
import rslab.cli.demo as demo
from rslab.experiments import recipes

def short(path):
    for run in recipes.read_recipe(path):
        run = replace(run, train=replace(run.train, epochs=1), certify=replace(run.certify, n=200, max=3))
        yield run

demo.read_recipe = lambda path: list(short(path))
logs = Path(rslab.cli.__file__).parent.parent / "results" / "digits"
for words in (
    *([name, "--help"] for name in rslab.cli.COMMANDS),
    ["demo", "--out", "demo"],
    ["train", "--dataset", "digits", "--epochs", "1", "--out", "trained"],
    ["attack", "demo/gaussian", "--max", "2", "--epsilon", "0.5", "--steps", "1"],
    ["table", str(logs)],
    ["plot", str(logs), "--out", "plot.png"],
    ["data"],
    ["reproduce", "demo", "--list"],
):
    sys.argv = ["rslab", *words]
    try:
        rslab.cli.main()
    except SystemExit as stop:
        print("exit", stop.code, *words, file=sys.stderr, flush=True)
"""


@pytest.fixture
def windows(tmp_path):
    """Run a program of these lines as Windows would, in an empty folder: its output and error output, in bytes."""
    for name in ("site", "here"):
        (tmp_path / name).mkdir()
    path = without_posix(
        tmp_path / "site",
        "resource fcntl pwd grp termios tty pty",
        "fork forkpty getuid geteuid getpgid killpg setsid",
        "SIGKILL SIGHUP SIGUSR1",
        "import multiprocessing; multiprocessing.set_start_method('spawn')",
    )

    def run(program: str, **variables: str) -> tuple[bytes, bytes]:
        environment = {**os.environ, "PYTHONPATH": path, "COLUMNS": "100", **variables}
        command = [sys.executable, "-c", program]
        done = subprocess.run(command, cwd=tmp_path / "here", env=environment, capture_output=True, timeout=600)
        assert done.returncode == 0, done.stderr.decode("utf-8", "replace")[-2000:]
        return done.stdout, done.stderr

    return run


def test_every_module_is_imported_without_what_posix_alone_has(windows):
    windows("import os; assert not hasattr(os, 'fork')" + IMPORT_ALL)


@pytest.mark.parametrize("code_page", ["ascii"])
def test_every_command_prints_through_a_pipe_in_a_code_page(windows, code_page):
    out, err = windows(RUN_ALL, PYTHONIOENCODING=code_page)
    codes = [line.split() for line in err.decode(code_page).splitlines() if line.startswith("exit ")]
    assert len(codes) == len(cli.COMMANDS) + 7
    assert all(code == "0" for _, code, *_ in codes), codes
    text = out.decode(code_page)
    assert "\\u" not in text and ("σ = 0.25" in text or "sigma = 0.25" in text)
    assert "Certified accuracy in %" in text and "ACR" in text  # the demo's table, after its work


def printed(text: str, encoding: str, monkeypatch, platform: str, **variables: str) -> bytes:
    """What arrives at the other end of a pipe."""
    monkeypatch.setattr(cli.sys, "platform", platform)
    monkeypatch.delenv("PYTHONIOENCODING", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    pipe = io.BytesIO()
    stream = io.TextIOWrapper(pipe, encoding=encoding)
    cli._make_printable(stream)
    stream.write(text)
    stream.flush()
    return pipe.getvalue()


@pytest.mark.parametrize(
    "page", ["cp1252", "cp437", "cp850", "cp932", "cp1251", "mbcs" if os.name == "nt" else "cp936"]
)
def test_windows_writes_utf8_to_a_pipe(monkeypatch, page):
    assert printed("σ ≤ ½, f(x̂)", page, monkeypatch, "win32") == "σ ≤ ½, f(x̂)".encode()


def test_an_encoding_that_was_asked_for_stays(monkeypatch):
    assert printed("σ ½", "cp1252", monkeypatch, "win32", PYTHONIOENCODING="cp1252") == b"sigma \xbd"
    assert printed("σ ½", "latin-1", monkeypatch, "linux") == b"sigma \xbd"
    assert printed("Σ ½ xᵢ ⅓ … ♞", "ascii", monkeypatch, "linux") == b"Sigma 1/2 x_i 1/3 ... \\u265e"


def test_a_posix_locale_without_utf8(windows):
    out, _ = windows(
        "import sys; sys.argv = ['rslab', 'certify', '--help']; from rslab.cli import main; main()",
        **{"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    )
    assert b"sigma of the noise" in out


def test_memory_is_measured_without_resource(monkeypatch, tmp_path):
    import psutil

    monkeypatch.setitem(sys.modules, "resource", None)
    monkeypatch.setattr(costs, "Path", lambda path: tmp_path / "no such file")  # nor is there a /proc
    process = SimpleNamespace(memory_info=lambda: SimpleNamespace(peak_wset=12345))
    monkeypatch.setattr(psutil, "Process", lambda: process)
    assert costs.process_peak("cpu") == 12345


def test_a_log_in_a_folder_with_a_drive_letter_is_read(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "C:\\runs\\x"
    folder.mkdir()
    for name in ("certify.tsv", "certify.json", "config.json"):
        (folder / name).write_bytes((RESULTS / "digits" / "gaussian-0.25" / name).read_bytes())
    (folder / "certify.tsv").write_bytes((folder / "certify.tsv").read_bytes().replace(b"\n", b"\r\n"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["rslab", "table", "C:\\runs\\x"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    out = capsys.readouterr().out
    assert stop.value.code == 0 and "x " in out and "ACR" in out


def test_seeds_of_runs_made_on_windows_are_one_group(tmp_path):
    """Their configurations name the run that they build on by its path there."""
    found = set()
    for seed, runs in enumerate(("C:\\Users\\lena\\runs\\teacher-0", "/home/lena/runs/teacher-1")):
        folder = tmp_path / f"pretrained-{seed}"
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps({"train": {"pretrained": runs}}), encoding="utf-8")
        (folder / "certify.tsv").write_text("", encoding="utf-8")
        (folder / "certify.json").write_text("{}", encoding="utf-8")
        found.add(_recipe(folder / "certify.tsv"))
    assert len(found) == 1
