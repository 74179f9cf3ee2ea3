"""The set-up holds together: one list of dependencies, one way to run things."""

import re
import subprocess
import tomllib
from importlib.metadata import requires
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def names(requirements):
    return {re.match(r"[\w.-]+", requirement)[0].lower() for requirement in requirements}


def test_environment_yml_only_points_to_pyproject(project):
    lines = [line.strip() for line in (ROOT / "environment.yml").read_text().splitlines()]
    assert "- -e .[test]" in lines
    # The conda packages are Python and pip alone: every other dependency comes from pyproject.
    conda = lines[lines.index("dependencies:") + 1 : lines.index("- pip:")]
    assert sorted(re.match(r"- (\w+)", line)[1] for line in conda) == ["pip", "python"]
    assert f"- python {project['requires-python']}" in conda
    assert lines[lines.index("channels:") + 1] == "- conda-forge"


def test_installed_package_needs_what_pyproject_lists(project):
    declared = [r for r in requires("randomized-smoothing-lab") if "extra ==" not in r]
    assert names(declared) == names(project["dependencies"])


def test_every_import_of_the_package_is_a_declared_dependency(project):
    import ast
    import sys

    imported = set()
    for file in (ROOT / "rslab").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add(node.module.split(".")[0])
    modules = {"sklearn": "scikit-learn", "PIL": "pillow"}
    foreign = {modules.get(m, m) for m in imported - set(sys.stdlib_module_names) - {"rslab"}}
    assert foreign <= names(project["dependencies"])
    assert foreign >= {"torch", "numpy", "scipy", "pandas", "cyclopts"}


def test_readme_gives_a_reason_for_every_dependency(project):
    readme = (ROOT / "README.md").read_text()
    table = readme[readme.index("| dependency |") :]
    listed = set(re.findall(r"^\| `([\w-]+)` \|", table, re.MULTILINE))
    assert listed == names(project["dependencies"]) | names(project["optional-dependencies"]["test"])


def test_the_readme_is_short_and_every_link_of_ours_leads_somewhere():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
    for page in pages:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            assert (page.parent / target).exists(), (page.name, target)
    linked = set(re.findall(r"\]\((docs/[\w-]+\.md)\)", (ROOT / "README.md").read_text()))
    assert linked == {f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")}


def test_the_readmes_lines_for_your_own_model_certify_it(capsys):
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    exec(code, {"model": model, "image": torch.rand(1, 8, 8)})
    prediction, radius = capsys.readouterr().out.split()
    assert -1 <= int(prediction) < 10 and 0 <= float(radius) <= 0.8


def test_ci_calls_the_test_command_of_the_readme():
    ci = (ROOT / ".ci" / "run").read_text()
    assert all(f"\nmake {target} || failed=1\n" in ci for target in ("test", "test-oldest"))
    assert "make test" in (ROOT / "README.md").read_text()
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111


def test_make_sets_up_when_pyproject_is_newer(tmp_path):
    """`make -n` (no action) says that a target would install when .venv is absent or out of date."""
    for name in ("Makefile", "pyproject.toml"):
        (tmp_path / name).write_text((ROOT / name).read_text())

    def planned():
        return subprocess.run(["make", "-n", "demo"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout

    assert "-m venv .venv" in planned() and "rslab demo" in planned()
    ready = tmp_path / ".venv" / "ready"
    ready.parent.mkdir()
    ready.touch()
    assert "-m venv .venv" not in planned()
    import os

    os.utime(ready, (0, 0))
    assert "-m venv .venv" in planned()


def public_definitions(tree, above=""):
    """(dotted name, node) of every public function, class and method."""
    import ast

    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield above + node.name, node
            if isinstance(node, ast.ClassDef):
                yield from public_definitions(node, f"{node.name}.")


def test_every_module_and_public_name_says_what_it_is():
    """`update` and `forward` fill in what their base class documents."""
    import ast

    for file in (ROOT / "rslab").rglob("*.py"):
        tree = ast.parse(file.read_text())
        assert ast.get_docstring(tree), file
        for name, node in public_definitions(tree):
            if not name.endswith((".update", ".forward")):
                assert ast.get_docstring(node), f"{file}: {name}"


@pytest.mark.parametrize("failing", ["", "notebooks", "unit", "unit notebooks"])
def test_make_test_runs_the_notebooks_whatever_the_unit_tests_said_and_fails_if_either_did(tmp_path, failing):
    for name in ("Makefile", "pyproject.toml"):
        (tmp_path / name).write_text((ROOT / name).read_text())
    binaries = tmp_path / ".venv" / "bin"
    binaries.mkdir(parents=True)
    stand_in = binaries / "python"  # writes down which half it was asked for, and fails if that one shall
    stand_in.write_text(
        '#!/bin/sh\ncase "$*" in *notebooks) half=notebooks ;; *) half=unit ;; esac\n'
        f'echo $half >> asked\ncase " {failing} " in *" $half "*) exit 3 ;; esac\n'
    )
    stand_in.chmod(0o755)
    (tmp_path / ".venv" / "ready").touch()
    ended = subprocess.run(["make", "test"], cwd=tmp_path, capture_output=True, text=True)
    assert (tmp_path / "asked").read_text().split() == ["unit", "notebooks"]
    assert (ended.returncode == 0) == (failing == "")
