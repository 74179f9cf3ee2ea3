"""Builds and looks after `.venv`, the environment of this folder; run as a file, before anything is installed.

`make` does so before each of its targets; without make, `python3 rslab/machine/environment.py` (on Windows
`py rslab\\machine\\environment.py`) does the same. It needs the standard library only, and is written in the grammar of
Python 3.6, so that an older Python than the course's ends in a sentence.
"""

import argparse
import hashlib
import importlib.util
import io
import itertools
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Iterable
from pathlib import Path

HERE = Path(__file__).resolve().parents[2]
PROJECT = (HERE / "pyproject.toml").read_text(encoding="utf-8")
limits = re.search(r'^requires-python = ">=3[.](\d+),<3[.](\d+)"', PROJECT, re.MULTILINE)
assert limits
FIRST, BEYOND = map(int, limits.groups())
if not (3, FIRST) <= sys.version_info[:2] < (3, BEYOND):
    other = f"3.{BEYOND - 2}"
    sys.exit(
        f"The course needs Python 3.{FIRST} to 3.{BEYOND - 1}, and {sys.executable} is {sys.version.split()[0]}. "
        f"Name another: make PYTHON=python{other}, or python{other} rslab/machine/environment.py "
        f"(Windows: py -{other} rslab\\machine\\environment.py)."
    )

VENV = HERE / ".venv"
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
PYTHON = BIN / ("python.exe" if os.name == "nt" else "python")
PACKAGES = "Lib/site-packages" if os.name == "nt" else "lib/python*/site-packages"
STAMP = VENV / "ready"  # written last: the folder for which .venv was built, and the pyproject.toml
CPU_INDEX = "https://download.pytorch.org/whl/cpu"

# GB to download and GB on disk, as docs/install.md measured them. CUDA's libraries come on Linux only.
SIZES = {"default": (3.3, 6.8) if sys.platform == "linux" else (0.5, 2.0), "CPU": (0.5, 2.0)}

# Neither the current folder nor PYTHONPATH answers in the environment's place, and paths come in UTF-8.
ALONE = ["-I", "-X", "utf8", "-c"]

# What the environment's Python answers: where rslab comes from, and whether pip and torch are there.
PROBE = """
from importlib.util import find_spec
for name in ("rslab", "pip", "torch"):
    spec = find_spec(name)
    print(spec.origin or "" if spec else "")
"""


class Failed(Exception):
    """The environment cannot be made ready; the sentence says why, and what helps."""


def main(words: list[str] | None = None) -> int:
    """Make the environment ready and say what was done; the exit code."""
    options = argparse.ArgumentParser(description="Build and look after .venv, the environment of this folder.")
    options.add_argument("--cpu", action="store_true", help="PyTorch's CPU build: a third of the size, no GPU")
    options.add_argument("--quiet", action="store_true", help="say nothing where all is well")
    given = options.parse_args(words)
    for stream in (sys.stdout, sys.stderr):  # a path may have letters that the terminal's code page lacks
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace", line_buffering=True)
    try:
        # Outside Linux PyTorch's default is its CPU build.
        done = make_ready(given.cpu and sys.platform == "linux")
    except Failed as failure:
        print(failure, file=sys.stderr)
        return 1
    except OSError as error:
        print(f"{VENV} cannot be made: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Stopped before the environment was ready; the same command goes on.", file=sys.stderr)
        return 130
    if done or not given.quiet:
        print(f"The environment is ready: {BIN}")
    return 0


def make_ready(cpu: bool) -> bool:
    """Build, update or mend `.venv` where that is needed; whether it was. `Failed` where it cannot be done."""
    rslab, pip, torch = probe()
    owner = other_owner(rslab)
    cpu_there = any(VENV.glob(f"{PACKAGES}/torch-*+cpu.dist-info"))
    anew = True
    if not VENV.exists():
        why = ""
    elif owner:
        why = f"The environment here belongs to {owner}; building this folder's own."
    elif not pip:
        why = "The environment's Python is gone, or is another one now; building the environment anew."
    elif cpu and torch and not cpu_there:
        why = "The environment here holds PyTorch's default build; building it anew for the CPU."
    elif rslab and VENV in rslab.parents:
        anew = False
        why = (
            "The rslab in the environment is not this folder's (`pip install rslab` brings another project's, "
            "a sparse solver); removing it, and putting the course's back."
        )
    elif rslab and any(BIN.glob("rslab*")) and STAMP.is_file() and STAMP.read_text(encoding="utf-8") == stamp():
        return False
    else:
        anew = False
        why = "Bringing the environment up to date with pyproject.toml."
    if why:
        print(why)
    build(anew, "CPU" if cpu or cpu_there else "default", bool(torch) and not anew)
    return True


def probe() -> list[Path | None]:
    """Where rslab, pip and torch are that the environment's Python would import; None for what it lacks."""
    try:
        asked = subprocess.run([str(PYTHON), *ALONE, PROBE], capture_output=True, encoding="utf-8", check=True)
    except (OSError, subprocess.CalledProcessError):
        return [None] * 3
    return [Path(line) if line else None for line in asked.stdout.split("\n")[:3]]


def other_owner(rslab: Path | None) -> str:
    """The folder that `.venv` was built for, where that is another: by its stamp, or by the rslab that it imports."""
    folder = STAMP.read_text(encoding="utf-8").split("\n")[0] if STAMP.is_file() else ""
    if not folder and rslab and VENV not in rslab.parents:
        folder = str(rslab.parents[1])
    same = os.path.exists(folder) and os.path.samefile(folder, HERE)
    return "" if same else folder


def stamp() -> str:
    """What `.venv/ready` holds when `.venv` was built for this folder and this pyproject.toml."""
    what_is_installed = PROJECT.partition("[tool.")[0]
    return f"{HERE}\n{hashlib.sha256(what_is_installed.encode()).hexdigest()}\n"


def build(anew: bool, kind: str, has_torch: bool) -> None:
    """Make `.venv` where `anew`, install or update what it holds, look whether it loads, and write the stamp."""
    STAMP.unlink(missing_ok=True)
    if anew:
        make_venv()
    with tempfile.TemporaryDirectory(dir=VENV) as inside:
        temporary, options = (tempfile.gettempdir(), []) if has_torch else room(kind, inside)
        if not has_torch:
            announce(kind)
        if kind == "CPU":
            networks = re.findall(r'"(torch(?:vision)?(?:[<>=!~][^"]*)?)"', PROJECT)
            run_pip(
                ["install", "--index-url", CPU_INDEX, *networks, *options],
                temporary,
                f"PyTorch's CPU build did not come from {CPU_INDEX}; without CPU=1 (--cpu) the default one is taken.",
            )
        # The kit under its old name, or the stranger that bears it now, and what an uninstall left of it.
        run_pip(["uninstall", "--yes", "rslab"], temporary, "The other rslab could not be removed.")
        for folder in VENV.glob(f"{PACKAGES}/rslab"):
            shutil.rmtree(folder)
        run_pip(["install", "-e", f"{HERE}[test]", *options], temporary, "The installation failed.")
    command = [str(PYTHON), *ALONE, "import torch, torchvision"]
    loads = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace")
    if loads.returncode:
        said = last_lines(loads.stderr.splitlines())
        raise Failed(f"PyTorch is installed and does not load; make clean, and the same command again. {said}")
    rslab = probe()[0]
    if not rslab or HERE not in rslab.parents or VENV in rslab.parents:
        raise Failed(f"The environment still imports rslab from {rslab}; make clean, and the same command again.")
    STAMP.write_text(stamp(), encoding="utf-8")


def announce(kind: str) -> None:
    """What is going to be downloaded and installed, and how long it takes."""
    download, installed = SIZES[kind]
    smaller = " Without an NVIDIA GPU, make CPU=1 (--cpu) takes a third of that." if SIZES[kind] > SIZES["CPU"] else ""
    print(
        f"Installing the course with PyTorch's {kind} build: {download:g} GB to download, {installed:g} GB on disk, "
        f"{download * 8000 / 50 / 60:.0f} minutes at 50 Mbit/s and a few more.{smaller}"
    )


def make_venv() -> None:
    """A new `.venv`, with pip and nothing else."""
    if not importlib.util.find_spec("ensurepip"):
        raise Failed(
            f"This Python has no ensurepip, which makes environments. On Debian and Ubuntu: sudo apt install "
            f"python3.{sys.version_info[1]}-venv"
        )
    # An environment's own Python would delete itself.
    python = getattr(sys, "_base_executable", sys.executable)
    made = subprocess.run(
        [python, "-m", "venv", "--clear", VENV], capture_output=True, encoding="utf-8", errors="replace"
    )
    if made.returncode:
        raise Failed(f"{VENV} cannot be made: {last_lines([*made.stdout.splitlines(), *made.stderr.splitlines()])}")


def room(kind: str, inside: str) -> tuple[str, list[str]]:
    """A temporary folder and pip's options for which there is room.

    pip keeps what it downloads in its temporary folder until all is installed, and once more in its cache. The folder
    `inside` the environment serves where the system's is too small; the cache is left out where it does not fit.
    """
    download, installed = SIZES[kind]
    asked = subprocess.run(
        [PYTHON, "-m", "pip", "cache", "dir"], capture_output=True, encoding="utf-8", errors="replace"
    )
    cache = asked.stdout.strip()  # empty where pip shall keep none
    lacking = ""
    for temporary, kept in itertools.product((tempfile.gettempdir(), inside), (cache, "")):
        lacking = shortage([(str(VENV), installed), (temporary, download), *([(kept, download)] if kept else [])])
        if not lacking:
            return temporary, [] if kept else ["--no-cache-dir"]
    smaller = "make CPU=1 (or --cpu) needs a third, " if SIZES[kind] > SIZES["CPU"] else ""
    raise Failed(
        f"PyTorch's {kind} build needs {download + installed:.1f} GB while it is installed, and {installed:g} GB stay: "
        f"{lacking}. What helps: {smaller}TMPDIR=FOLDER puts {download:g} GB of it elsewhere, or move the course to a "
        "larger disk. Nothing was downloaded."
    )


def shortage(wanted: list[tuple[str, float]]) -> str:
    """Which file system lacks room for the (folder, GB) `wanted` of it, in words; empty where none does."""
    of_device: dict[int, tuple[Path, float]] = {}
    for folder, size in wanted:
        there = next(place for place in (Path(folder), *Path(folder).absolute().parents) if place.exists())
        device = there.stat().st_dev
        first, so_far = of_device.get(device, (there, 0.0))
        of_device[device] = first, so_far + size
    for there, size in of_device.values():
        free = shutil.disk_usage(there).free / 1e9
        if free < size:
            return f"{free:.1f} GB are free at {there}, {size:.1f} are needed there"
    return ""


def run_pip(words: list[str], temporary: str, failure: str) -> None:
    """pip in the environment, showing the large downloads; `Failed` with `failure` and pip's last lines."""
    command = [str(PYTHON), "-m", "pip", *words, "--disable-pip-version-check", "--no-input"]
    environment = {**os.environ, "TMPDIR": temporary, "PIP_USER": "0", "PIP_PROGRESS_BAR": "off", "PYTHONUTF8": "1"}
    lines: deque[str] = deque(maxlen=8)
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", errors="replace", env=environment
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line.rstrip())
            large = re.search(r"(?:Downloading|Using cached) (?:\S*/)?(\S+) \((\d\d+(?:\.\d+)? [MG]B)\)", line)
            if large:
                print(f"  {large[1]}, {large[2]}")
            elif line.startswith("Installing collected packages"):
                print("  unpacking ...")
    if process.returncode:
        raise Failed(f"{failure} {last_lines(lines)}")


def last_lines(lines: Iterable[str]) -> str:
    """The end of another program's words, indented."""
    return "".join(f"\n  {line}" for line in deque(filter(str.strip, lines), maxlen=4))


if __name__ == "__main__":
    sys.exit(main())
