"""The set-up check of notebook 00: a line each, whatever is missing."""

import subprocess
import sys

import pytest

from rslab.lectures.lecture00 import setup_check


def test_it_says_a_line_each_and_no_folder(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("RSLAB_DATA", str(tmp_path))
    setup_check.run()
    printed = capsys.readouterr().out
    assert "– MNIST: not here" in printed and "– CIFAR-10: not here" in printed and "✗" not in printed
    assert all(line[0] in "✓–✗" for line in printed.splitlines()) and str(tmp_path) not in printed
    (tmp_path / "cifar-10-batches-py").mkdir()
    (tmp_path / "cifar-10-batches-py" / "test_batch").touch()
    setup_check.run()
    assert "✓ CIFAR-10: found" in capsys.readouterr().out


@pytest.mark.parametrize("absent", [["torch"], ["scipy"], ["torch", "scipy", "numpy", "sklearn"]])
def test_what_is_missing_is_named_before_anything_needs_it(absent):
    """In a process of its own, in which these packages cannot be found."""
    program = f"""
import sys
from importlib.abc import MetaPathFinder
class Absent(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name in {absent}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
sys.stdout.reconfigure(encoding="utf-8")
from rslab.lectures.lecture00 import setup_check
setup_check.run()
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, encoding="utf-8", timeout=120)
    assert result.returncode == 0, result.stderr
    crosses = [line for line in result.stdout.splitlines() if line.startswith("✗")]
    for name in absent:
        package = setup_check.PACKAGES[name]
        assert f"✗ {package} is missing: {setup_check.INSTALL}" in crosses
    assert "✓ Python" in result.stdout and "Traceback" not in result.stdout + result.stderr


def test_a_library_that_is_there_but_broken_is_named(capsys, monkeypatch):
    def broken(name):
        raise OSError("libgomp.so.1: cannot open shared object file")

    monkeypatch.setattr(setup_check, "import_module", broken)
    setup_check.run()
    printed = capsys.readouterr().out
    assert "✗ torch is here but does not load (OSError: libgomp.so.1: cannot open" in printed
    assert printed.count("✗") == len(setup_check.PACKAGES)
