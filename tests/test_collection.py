"""The tests themselves, on a system that lacks what POSIX has: all are collected, and what cannot run is skipped."""

import os
import re
import subprocess
import sys
from pathlib import Path

from helpers import without_posix

ROOT = Path(__file__).resolve().parent.parent


def test_every_module_of_tests_can_be_imported_without_posix(tmp_path):
    of_os = "fork forkpty kill killpg mkfifo sched_getaffinity"  # not getuid, which JupyterLab's parts take on Linux
    path = without_posix(tmp_path, "resource fcntl", of_os, "SIGKILL SIGHUP SIGXFSZ")
    environment = {**os.environ, "PYTHONPATH": path}
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, encoding="utf-8", timeout=600)
    assert done.returncode == 0, done.stdout[-3000:]
    skipped = dict(re.findall(r"^SKIPPED \[\d+\] (tests[\w/\\.]+):\d+: (.*)$", done.stdout, re.MULTILINE))
    assert skipped.keys() == {os.path.join("tests", "test_crash.py")} and "POSIX" in [*skipped.values()][0]
