"""The house: ten wings, each importing only from those before it, and light where it can be."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ORDER = """
errors smoothing attacks config data machine networks store training evaluate report lectures experiments cli
""".split()


def wing(module: str) -> str:
    """ "rslab.smoothing.bounds" → "smoothing"."""
    return module.split(".")[1] if "." in module else ""


def imports(file: Path):
    """The modules of ours that a file imports anywhere, in functions too."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "rslab")
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "rslab":
            assert node.level == 0
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def files() -> list[Path]:
    return sorted((ROOT / "rslab").rglob("*.py"))


@pytest.mark.author
def test_every_file_stands_in_a_wing():
    found = {file.relative_to(ROOT / "rslab").parts[0].removesuffix(".py") for file in files()}
    assert found == {*ORDER, "__init__", "__main__"}


@pytest.mark.author
@pytest.mark.parametrize("name", ORDER)
def test_a_wing_imports_only_from_those_before_it(name):
    allowed = {*ORDER[: ORDER.index(name) + 1], "", "__version__"}
    if name == "smoothing":  # the theorem stands on nothing
        allowed = {"errors", "smoothing"}
    if name == "config":  # but when it is called: an `Attack` runs
        allowed.add("attacks")
    for file in files():
        if file.relative_to(ROOT / "rslab").parts[0].removesuffix(".py") == name:
            assert {wing(module) for module in imports(file)} <= allowed, file


@pytest.mark.author
def test_no_file_imports_itself_in_a_circle():
    """Of imports at the top of a file; those in functions, which wait for a call, cannot close one."""
    graph = {}
    for file in files():
        parts = file.relative_to(ROOT).with_suffix("").parts
        tree = ast.parse(file.read_text(encoding="utf-8"))
        top = [node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module.startswith("rslab")]
        graph[".".join(parts)] = {f"{node.module}.{a.name}" for node in top for a in node.names} | {
            node.module for node in top
        }
    done: set[str] = set()

    def visit(module: str, above: tuple[str, ...]) -> None:
        assert module not in above, " → ".join((*above, module))
        if module not in done:
            for other in graph[module] & graph.keys():
                visit(other, (*above, module))
            done.add(module)

    for module in graph:
        visit(module, ())


@pytest.mark.parametrize(
    "statement, absent",
    [
        ("import rslab; rslab.InputError; dir(rslab)", "torch numpy scipy pandas"),
        ("import rslab.smoothing.bounds", "torch pandas"),
        ("import rslab.smoothing.sequential", "torch pandas"),
        ("import rslab.config; rslab.config.TrainConfig()", "torch numpy"),
        ("import sys; sys.argv[1:] = ['--help']; import rslab.cli; rslab.cli.app(['--help'])", "torch numpy pandas"),
        ("import rslab.cli; rslab.cli.app(['train', '--help'])", "torch numpy pandas"),
        ("import rslab.report.tables; rslab.report.tables.RADII", "matplotlib"),
    ],
)
def test_what_is_light_loads_nothing_heavy(statement, absent):
    code = f"{statement}\nimport sys\nprint('loaded:', *sorted({{*sys.modules}} & {{*{absent!r}.split()}}))"
    utf8 = {**os.environ, "PYTHONIOENCODING": "utf-8"}  # `cli.main` sees to it, which is not called here
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=utf8, capture_output=True, encoding="utf-8", timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "loaded:"


def test_every_name_of_the_public_face_is_where_it_says():
    import rslab

    for name in rslab.__all__:
        assert getattr(rslab, name) is getattr(rslab, name)
        assert name in dir(rslab)
    with pytest.raises(AttributeError, match="no attribute 'imaginary'"):
        rslab.imaginary  # noqa: B018
    with pytest.raises(ImportError):
        exec("from rslab import imaginary")


@pytest.mark.author
def test_the_api_reference_has_every_wing():
    (wings,) = re.findall(r"^WINGS := (.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(wings.split()) == sorted(ORDER)


@pytest.mark.author
def test_the_readme_maps_every_wing_and_core_file():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    table = readme[readme.index("| read | role | lecture |") : readme.index("`rslab --help` lists")]
    rows = [line.split("|")[1] for line in table.splitlines()[2:] if line]
    mapped: list[str] = []
    for row in rows:  # "`report/tables.py`, `published.py`": the second stands in the folder of the first
        folder = ""
        for name in (part.strip("` ") for part in row.split(",")):
            folder = name.rpartition("/")[0] if "/" in name.rstrip("/") else folder
            mapped.append(name if "/" in name or not folder else f"{folder}/{name}")
    for name in mapped:
        assert (ROOT / "rslab" / name).exists(), name
    for name in ORDER:
        assert any(entry.split("/")[0].removesuffix(".py") == name for entry in mapped), name
    core = [file.name for file in (ROOT / "rslab" / "smoothing").glob("[a-z]*.py")]
    assert {f"smoothing/{name}" for name in core} <= {*mapped}
