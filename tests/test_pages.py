"""Every line of the pages that show how it is used: code, commands, and the outputs that are printed there."""

import ast
import contextlib
import doctest
import io
import re
import shlex
import sys
from pathlib import Path

import pytest
import torch
from test_cli import call

import rslab
from rslab.data.datasets import data_root
from rslab.networks.models import build_model
from rslab.store.logs import read_log

DOCS = Path(__file__).resolve().parent.parent / "docs"
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CHECKPOINT = "checkpoint.pth.tar"


def blocks(page: str) -> list[tuple[str, str]]:
    """(language, text) of each fenced block of a page."""
    return BLOCK.findall((DOCS / page).read_text(encoding="utf-8"))


def carry_out(page: str, command) -> dict:
    """Run the blocks of a page in order, in the current folder: python in one namespace, which is returned, sh by line.

    A python block that begins with "# name.py" is that file. What a block prints is compared with the text block
    that follows it, if one does.
    """
    namespace: dict = {}
    printed = None
    for language, text in blocks(page):
        if language == "python" and (file := re.match(r"# (\w+\.py)\n", text)):
            Path(file[1]).write_text(text, encoding="utf-8")
        elif language == "python":
            with contextlib.redirect_stdout(io.StringIO()) as out:
                exec(compile(text, page, "exec"), namespace)
            printed = out.getvalue()
        elif language == "sh":
            printed = "".join(map(command, text.splitlines()))
        else:
            assert language == "text" and text == printed, (
                f"{page} shows\n{text}but the block before printed\n{printed}"
            )
    return namespace


def of_the_checkpoint(line: str) -> bool:
    return CHECKPOINT in line


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty current folder; nothing that is imported from it stays."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place not in ("", str(tmp_path))])
    yield tmp_path
    sys.modules.pop("mynet", None)


@pytest.fixture
def command(monkeypatch, capsys):
    """Run one line of a page through the command line, with more words behind it; its output."""

    def run(line: str, *more) -> str:
        program, *words = shlex.split(line)
        assert program == "rslab"
        code, out, err = call(monkeypatch, capsys, *words, *more)
        assert code == 0, f"{line}: {err}"
        return out

    return run


def test_your_model(folder, command):
    said = {}

    def run(line: str) -> str:
        said[line] = "" if of_the_checkpoint(line) else command(line)
        return said[line]

    page = carry_out("your_model.md", run)
    assert len(read_log(folder / "mine-0.12.tsv")) == len(read_log(folder / "mine-0.25.tsv")) == 100
    assert page["accuracy"][0] > 80  # the page's training works
    for file, begin in (("curves.pdf", b"%PDF"), ("curves.png", b"\x89PNG"), ("curves.svg", b"<?xml")):
        assert (folder / file).read_bytes().startswith(begin)
    table = next(out for line, out in said.items() if line.startswith("rslab table") and "--paired" not in line)
    for row, noise in zip(table.splitlines()[1:], (0.25, 0.12), strict=True):
        log = read_log(folder / f"mine-{noise}.tsv")
        cells = [f"{value:.1f}" for value in rslab.certified_accuracy(log, [0, 0.25, 0.5])]
        assert row.split() == [f"mine-{noise}.tsv", "100", *cells, f"{rslab.average_certified_radius(log):.3f}"]
    paired = [out for line, out in said.items() if "--paired" in line]
    assert [out.splitlines()[0].split("  ")[0] for out in paired] == [
        "mine-0.25.tsv − mine-0.12.tsv",
        "mynet − mine-0.25.tsv",
    ]
    assert "mynet" in sys.modules and rslab.load_run("runs/mynet", arch="mynet:build")[1].method == "smoothadv"


def test_your_model_certifies_a_published_checkpoint(folder, command):
    if not (data_root() / "cifar-10-batches-py").is_dir():
        pytest.skip("CIFAR-10 is not under RSLAB_DATA")
    (line,) = [
        line for language, text in blocks("your_model.md") for line in text.splitlines() if of_the_checkpoint(line)
    ]
    state = {f"1.module.{name[2:]}": v for name, v in build_model("resnet20", "cifar10", 10).state_dict().items()}
    torch.save({"arch": "cifar_resnet20", "state_dict": state, "epoch": 1}, CHECKPOINT)
    assert command(line, "--n0", 5, "--n", 20, "--max", 2) == "checkpoint.tsv\n"
    assert read_log(folder / "checkpoint.tsv").idx.tolist() == [0, 20]


def test_from_python(folder):
    """The examples of every block, in one namespace; each public name is used in one."""
    examples = [
        example
        for language, text in blocks("python.md")
        if language == "python"
        for example in doctest.DocTestParser().get_examples(text)
    ]
    page = doctest.DocTest(examples, {}, "python.md", "python.md", 0, None)
    said: list[str] = []
    failed, tried = doctest.DocTestRunner(optionflags=doctest.FAIL_FAST).run(page, out=said.append, clear_globs=False)
    assert failed == 0 and tried == len(examples), "".join(said)
    used = {
        node.id for example in examples for node in ast.walk(ast.parse(example.source)) if isinstance(node, ast.Name)
    }
    assert set(rslab.__all__) <= used


@pytest.mark.author
def test_the_page_has_one_entry_a_public_name():
    entries = re.findall(r"^`(\w+)`: ", (DOCS / "python.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(entries) == list(rslab.__all__)
