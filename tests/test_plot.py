"""`rslab plot`: the curves that it draws, the files that it writes, and what it refuses."""

import errno
import io
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image
from scipy.stats import binomtest
from test_cli import call, published_log

from rslab.lectures.results import logs_figure
from rslab.store import files
from rslab.store.logs import settings_path

BEGINNINGS = {"pdf": b"%PDF-", "png": b"\x89PNG\r\n\x1a\n", "svg": b"<?xml"}


def a_log(size: int, seed: int) -> pd.DataFrame:
    """Random radii, a third of the images wrong or abstained."""
    random = np.random.default_rng(seed)
    correct = (random.random(size) > 1 / 3).astype(int)
    radius = np.where(correct | (random.random(size) > 0.5), random.random(size).round(2), 0.0)
    return pd.DataFrame({"idx": range(size), "label": 1, "predict": correct, "radius": radius, "correct": correct})


@pytest.fixture(scope="module")
def figure():
    return logs_figure({"one": a_log(40, 1), "two": a_log(300, 2)}, "title")


def test_a_curve_is_the_share_that_is_correct_and_certified_at_each_radius(figure):
    (axes,) = figure.axes
    assert [line.get_label() for line in axes.lines] == ["one", "two"] and axes.get_title() == "title"
    for line, log in zip(axes.lines, (a_log(40, 1), a_log(300, 2)), strict=True):
        radii, accuracy = line.get_data(orig=True)
        assert radii[0] == 0 and radii[-1] > log.radius.max() and line.get_drawstyle() == "steps-pre"
        rows = list(zip(log.correct, log.radius, strict=True))
        counted = [sum(correct == 1 and radius >= r for correct, radius in rows) for r in radii]
        assert accuracy == pytest.approx([100 * count / len(log) for count in counted])
    assert axes.lines[0].get_color() != axes.lines[1].get_color()


def test_the_band_of_a_curve_is_clopper_and_pearsons_interval_as_scipy_computes_it(figure):
    (axes,) = figure.axes
    for line, band, size in zip(axes.lines, axes.collections, (40, 300), strict=True):
        radii, accuracy = line.get_data(orig=True)
        assert tuple(band.get_facecolor()[0][:3]) == pytest.approx(_rgb(line.get_color()))
        counts = [round(share * size / 100) for share in accuracy]
        exact = [binomtest(count, size).proportion_ci(0.95, "exact") for count in counts]
        outline = band.get_paths()[0].vertices
        for k in range(1, len(radii) - 1):  # left of a radius the band of that radius, right of it the next one's
            wanted = {100 * bound for ci in exact[k : k + 2] for bound in (ci.low, ci.high)}
            drawn = outline[outline[:, 0] == radii[k], 1]
            assert sorted(set(drawn.round(6))) == sorted({round(bound, 6) for bound in wanted})


def _rgb(color: str) -> list[float]:
    return [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]


@pytest.mark.parametrize("kind", BEGINNINGS)
def test_the_ending_says_which_kind_of_file_is_written(tmp_path, monkeypatch, capsys, kind):
    one, two = published_log(tmp_path / "one", [0.3, 0.6]), published_log(tmp_path / "two", [0.1, 0.2])
    out = tmp_path / "new" / f"curves.{kind}"
    code, said, err = call(monkeypatch, capsys, "plot", one, two, "--out", out, "--title", "σ = 0.25")
    assert (code, said, err) == (0, f"{out}\n", "")
    assert out.read_bytes().startswith(BEGINNINGS[kind])
    assert [file.name for file in out.parent.iterdir()] == [out.name]
    if kind == "png":
        with Image.open(out) as picture:
            assert picture.size == (1050, 630)  # 7 × 4.2 inches of 150 dots
    if kind == "svg":
        assert ElementTree.parse(out).getroot().tag.endswith("}svg")


def test_every_log_of_a_folder_is_a_curve_and_what_is_left_out_or_made_otherwise_is_said(tmp_path, monkeypatch, capsys):
    for name, n in (("a", 100), ("b", 1000)):
        files.write_json(settings_path(published_log(tmp_path / "logs" / name, [0.3])), {"n": n})
    published_log(tmp_path / "logs" / "empty", [])
    drawn = []
    monkeypatch.setattr("rslab.cli.plot.logs_figure", lambda logs, title: drawn.extend(logs) or logs_figure(logs))
    monkeypatch.chdir(tmp_path)
    code, said, err = call(monkeypatch, capsys, "plot", "logs")
    assert (code, said, drawn) == (0, "curves.pdf\n", ["a", "b"])
    assert err.splitlines() == [
        "Left out: 1 log, empty (no row after the header): empty.",
        "These logs were made with different n 100 (a), 1000 (b).",
    ]


def test_names_and_titles_are_drawn_as_they_are_and_there_may_be_many(tmp_path, monkeypatch, capsys):
    names = ["_first", "$x_{$", r"\foo$y$", *(f"model-{number}" for number in range(20))]
    figure = logs_figure({name: a_log(5, 0) for name in names}, r"$\foo$")
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == names
    assert len({(line.get_color(), line.get_linestyle()) for line in axes.lines}) == len(names)
    figure.savefig(io.BytesIO(), format="png")  # none is taken for a formula, which fails at the drawing
    log = published_log(tmp_path / "log", [0.3])
    assert call(monkeypatch, capsys, "plot", log, "--out", tmp_path / "a.png", "--title", r"$x_{$ $\foo$")[0] == 0


def test_a_log_that_certifies_nothing_is_a_curve_too(tmp_path, monkeypatch, capsys):
    (axes,) = logs_figure({"nothing": a_log(5, 0).assign(radius=0.0, correct=0)}).axes
    radii, accuracy = axes.lines[0].get_data(orig=True)
    assert radii[-1] == 1 and not accuracy.any()


MISTAKES = {
    "plot log --out curves.gif": "out: got 'curves.gif', expected a name that ends in one of .pdf, .png, .svg.",
    "plot log --out curves": "out: got 'curves', expected a name that ends in one of .pdf, .png, .svg.",
    "plot log --out .pdf": "out: got '.pdf', expected a name that ends in one of .pdf, .png, .svg.",
    "plot log --out log/curves.pdf": "out: got log/curves.pdf, but log is a file, expected a folder.",
    "plot log --out folder.pdf": "out: got folder.pdf, a folder, expected a new file or a regular one.",
    "plot nowhere": "PATH: got nowhere, which does not exist, expected a log, a run or a folder of logs.",
    "plot folder.pdf": "PATH: got folder.pdf, which holds no certification log, expected one at least.",
    "plot empty": "PATH: got no log with a row (empty (no row after the header): empty), expected one at least.",
    "plot attack.tsv": "attack.tsv: got a log of attacks, expected one of certification.",
    "plot": "PATH: got none, expected `rslab plot PATH`.",
}


@pytest.mark.parametrize("command", MISTAKES)
def test_a_mistake_is_one_sentence_and_writes_nothing(tmp_path, monkeypatch, capsys, command):
    published_log(tmp_path / "log", [0.3])
    published_log(tmp_path / "empty", [])
    (tmp_path / "attack.tsv").write_text(
        "idx\tlabel\tpredict\tbasePredict\tcorrect\ttime\n0\t1\t1\t1\t1\t0:00:01\n", encoding="utf-8"
    )
    (tmp_path / "folder.pdf").mkdir()
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.chdir(tmp_path)
    code, out, err = call(monkeypatch, capsys, *command.split())
    assert (code, out) == (2, "") and err.startswith("rslab: ") and err.endswith(f"{MISTAKES[command]}\n")
    assert err.count("\n") == 1 and sorted(tmp_path.rglob("*")) == before


def test_a_picture_that_cannot_be_written_leaves_the_one_before(tmp_path, monkeypatch, capsys):
    def full(_, file, **__):
        file.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    log, out = published_log(tmp_path / "log", [0.3]), tmp_path / "curves.pdf"
    assert call(monkeypatch, capsys, "plot", log, "--out", out)[0] == 0
    before = out.read_bytes()
    monkeypatch.setattr(Figure, "savefig", full)
    code, said, err = call(monkeypatch, capsys, "plot", log, "--out", out)
    assert (code, said, err) == (1, "", f"rslab: {out}: could not be written (No space left on device).\n")
    assert out.read_bytes() == before and sorted(file.name for file in tmp_path.iterdir()) == ["curves.pdf", "log"]
