"""The set-up holds together: one list of dependencies, one way to run things."""

import os
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
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def names(requirements):
    return {re.match(r"[\w.-]+", requirement)[0].lower() for requirement in requirements}


def conda_packages(file: str) -> list[str]:
    """What an environment file takes from conda."""
    lines = [line.strip() for line in (ROOT / file).read_text(encoding="utf-8").splitlines()]
    assert lines[lines.index("channels:") + 1] == "- conda-forge"
    listed = lines[lines.index("dependencies:") + 1 :]
    return [line[2:] for line in (listed[: listed.index("- pip:")] if "- pip:" in listed else listed) if line]


@pytest.mark.author
def test_conda_brings_python_and_pytorch_and_pyproject_the_rest(project):
    (torch_of_pip,) = [line for line in project["dependencies"] if re.match(r"torch\b", line)]
    pytorch = torch_of_pip.replace("torch", "pytorch ")
    assert conda_packages("environment.yml") == [f"python {project['requires-python']}", "pip", pytorch, "torchvision"]
    assert (ROOT / "environment.yml").read_text(encoding="utf-8").endswith("  - pip:\n      - -e .[test]\n")
    # Binder: one exact Python, which repo2docker reads, of those that pyproject allows.
    exact, *others = conda_packages(".binder/environment.yml")
    low, high = (int(minor) for minor in re.findall(r"3\.(\d+)", project["requires-python"]))
    assert int(re.fullmatch(r"python=3\.(\d+)", exact)[1]) in range(low, high)
    assert others == ["pip", pytorch.replace("pytorch", "pytorch-cpu"), "torchvision"]
    assert "pip install --no-cache-dir -e .\n" in (ROOT / ".binder" / "postBuild").read_text(encoding="utf-8")
    assert (ROOT / ".binder" / "postBuild").stat().st_mode & 0o111


@pytest.mark.author
def test_the_workflow_runs_the_lowest_and_the_highest_python_on_three_systems(project):
    workflow = (ROOT / ".github" / "workflows" / "tests.yml").read_text(encoding="utf-8")
    low, high = (int(minor) for minor in re.findall(r"3\.(\d+)", project["requires-python"]))
    assert f'python: ["3.{low}", "3.{high - 1}"]' in workflow
    assert "os: [ubuntu-latest, macos-latest, windows-latest]" in workflow
    for command in ('pip install -e ".[test]"', "-m pytest\n", "--nbval-lax", " notebooks\n"):
        assert command in workflow


def test_installed_package_needs_what_pyproject_lists(project):
    declared = [r for r in requires("randomized-smoothing-lab") if "extra ==" not in r]
    assert names(declared) == names(project["dependencies"])


@pytest.mark.author
def test_every_import_of_the_package_is_a_declared_dependency(project):
    import ast
    import sys

    imported = set()
    for file in (ROOT / "rslab").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add(node.module.split(".")[0])
    modules = {"sklearn": "scikit-learn", "PIL": "pillow"}
    modules |= {name: "jupyterlab" for name in ("IPython", "jupyter_core", "psutil", "traitlets")}  # which brings them
    foreign = {modules.get(m, m) for m in imported - set(sys.stdlib_module_names) - {"rslab"}}
    assert foreign <= names(project["dependencies"])
    assert foreign >= {"torch", "numpy", "scipy", "pandas", "cyclopts"}


@pytest.mark.author
def test_readme_gives_a_reason_for_every_dependency(project):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    table = readme[readme.index("| dependency |") :]
    first_cells = re.findall(r"^\| (`.*?`) \|", table, re.MULTILINE)
    listed = {name for cell in first_cells for name in re.findall(r"`([\w-]+)`", cell)}
    assert listed == names(project["dependencies"]) | names(project["optional-dependencies"]["test"])


@pytest.mark.author
def test_the_readme_is_short_and_every_link_of_ours_leads_somewhere():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
    for page in pages:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), (page.name, target)
    linked = set(re.findall(r"\]\((docs/[\w-]+\.md)\)", (ROOT / "README.md").read_text(encoding="utf-8")))
    assert linked == {f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")}


def test_the_readmes_lines_for_your_own_model_certify_it(capsys):
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    exec(code, {"model": model, "image": torch.rand(1, 8, 8)})
    prediction, radius = capsys.readouterr().out.split()
    assert -1 <= int(prediction) < 10 and 0 <= float(radius) <= 0.8


@pytest.mark.author
def test_ci_calls_the_test_command_of_the_readme():
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert all(f"\nmake {target} || failed=1\n" in ci for target in ("test", "test-course", "test-oldest"))
    assert "make test" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111


def public_definitions(tree, above=""):
    """(dotted name, node) of every public function, class and method."""
    import ast

    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield above + node.name, node
            if isinstance(node, ast.ClassDef):
                yield from public_definitions(node, f"{node.name}.")


@pytest.mark.author
def test_every_module_and_public_name_says_what_it_is():
    """`update`, `dragged` and `forward` fill in what their base class documents."""
    import ast

    for file in (ROOT / "rslab").rglob("*.py"):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        assert ast.get_docstring(tree), file
        for name, node in public_definitions(tree):
            if not name.endswith((".update", ".dragged", ".forward")):
                assert ast.get_docstring(node), f"{file}: {name}"


@pytest.mark.parametrize("failing", ["", "notebooks", "unit", "unit notebooks"])
def test_make_test_runs_the_notebooks_whatever_the_unit_tests_said_and_fails_if_either_did(tmp_path, failing):
    for name in ("Makefile", "pyproject.toml"):
        (tmp_path / name).write_text((ROOT / name).read_text(encoding="utf-8"), encoding="utf-8")
    binaries = tmp_path / ".venv" / "bin"
    binaries.mkdir(parents=True)
    stand_in = binaries / "python"  # writes down which half it was asked for, and fails if that one shall
    stand_in.write_text(
        '#!/bin/sh\ncase "$*" in *environment.py*) exit ;; *notebooks) half=notebooks ;; *) half=unit ;; esac\n'
        f'echo $half$PYTHONPATH >> asked\ncase " {failing} " in *" $half "*) exit 3 ;; esac\n',
        encoding="utf-8",
    )
    stand_in.chmod(0o755)
    environment = {**os.environ, "PYTHONPATH": "/of/another/rslab"}  # which no target sees
    ended = subprocess.run(["make", "test"], cwd=tmp_path, capture_output=True, env=environment)
    assert (tmp_path / "asked").read_text(encoding="utf-8").split() == ["unit", "notebooks"]
    assert (ended.returncode == 0) == (failing == "")
