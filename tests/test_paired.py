"""`rslab table A B --paired`: the difference of two models on the same images, by hand."""

from math import sqrt

import pytest
from test_cli import call, published_log

from rslab.store import files
from rslab.store.logs import settings_path

HEADER = "idx\tlabel\tpredict\tradius\tcorrect\ttime\n"
#          image 0    1    2    3; an image that is not correct has radius 0 here
FIRST = [0.6, 0.3, 0.4, 0.0]  # wrong on image 3
SECOND = [0.6, 0.2, 0.0, 0.1]  # wrong on image 2


def write(path, radii, order=(0, 1, 2, 3)):
    """A log whose image i has label i + 1 and radius radii[i], and is wrong where that is 0."""
    rows = []
    for i in order:
        correct = int(radii[i] > 0)
        rows.append(f"{i}\t{i + 1}\t{i + 1 if correct else -1}\t{radii[i]}\t{correct}\t0:00:01\n")
    path.write_text(HEADER + "".join(rows), encoding="utf-8")
    return path


@pytest.fixture
def logs(tmp_path, monkeypatch):
    """Two logs in the current folder, the second in another order of the images."""
    write(tmp_path / "first", FIRST)
    write(tmp_path / "second", SECOND, order=(2, 0, 3, 1))
    monkeypatch.chdir(tmp_path)


def test_the_difference_and_its_interval_are_those_computed_by_hand(logs, monkeypatch, capsys):
    code, out, err = call(
        monkeypatch, capsys, "table", "first", "second", "--paired", "--radii", "0,0.25,0.5", "--format", "csv"
    )
    assert (code, err) == (0, "")
    header, *rows = [line.split(",") for line in out.splitlines()]
    assert header == ["first − second", "0.0", "0.25", "0.5"] and [row[0] for row in rows] == [
        "difference",
        "low",
        "high",
    ]
    # image by image: 0 0 1 −1 at radius 0, 0 1 1 0 at 0.25, 0 0 0 0 at 0.5 (both certify image 0)
    differences = [0, 50, 0]
    deviations = [sqrt(2 / 3), sqrt(1 / 3), 0]
    halves = [100 * 1.96 * deviation / sqrt(4) for deviation in deviations]
    found = [[float(cell) for cell in row[1:]] for row in rows]
    assert found[0] == pytest.approx(differences)
    assert found[1] == pytest.approx([d - h for d, h in zip(differences, halves, strict=True)])
    assert found[2] == pytest.approx([d + h for d, h in zip(differences, halves, strict=True)])


def test_the_text_rounds_to_tenths_and_the_other_order_changes_the_sign(logs, monkeypatch, capsys):
    _, out, _ = call(monkeypatch, capsys, "table", "first", "second", "--paired", "--radii", "0.25")
    assert out.splitlines() == [
        "first − second   0.25",
        "difference       50.0",
        "low              -6.6",
        "high            106.6",
    ]
    _, out, _ = call(monkeypatch, capsys, "table", "second", "first", "--paired", "--radii", "0.25")
    assert [line.split()[-1] for line in out.splitlines()[1:]] == ["-50.0", "-106.6", "6.6"]


def test_markdown_and_latex_hold_the_same(logs, monkeypatch, capsys):
    words = ("table", "first", "second", "--paired", "--radii", "0.25", "--format")
    _, out, _ = call(monkeypatch, capsys, *words, "markdown")
    assert [line.split() for line in out.splitlines()[2:]] == [
        ["|", "difference", "|", "50.0", "|"],
        ["|", "low", "|", "-6.6", "|"],
        ["|", "high", "|", "106.6", "|"],
    ]
    _, out, _ = call(monkeypatch, capsys, *words, "latex")
    assert r"first $-$ second & 0.25 \\" in out and r"low & -6.6 \\" in out


def test_without_radii_the_columns_are_those_of_the_table(logs, monkeypatch, capsys):
    columns = [
        call(monkeypatch, capsys, "table", "first", "second", *more)[1].splitlines()[0] for more in ([], ["--paired"])
    ]
    assert columns[0].split()[2:-1] == columns[1].split()[3:] == "0 0.25 0.5 0.75 1 1.25 1.5 1.75 2 2.25".split()


def test_a_folder_of_two_logs_is_a_pair_and_what_is_left_out_is_said(logs, tmp_path, monkeypatch, capsys):
    published_log(tmp_path / "third", [])
    code, out, err = call(monkeypatch, capsys, "table", ".", "--paired", "--radii", "0.25")
    assert code == 0 and out.splitlines()[1].split() == ["difference", "50.0"]
    assert err == "Left out: 1 log, empty (no row after the header): third.\n"


def test_logs_made_differently_are_compared_and_that_is_said(logs, tmp_path, monkeypatch, capsys):
    for name, n in (("first", 100), ("second", 1000)):
        files.write_json(settings_path(tmp_path / name), {"n": n, "alpha": 0.001})
    code, out, err = call(monkeypatch, capsys, "table", "first", "second", "--paired", "--radii", "0.25")
    assert code == 0 and "50.0" in out
    assert err == "These logs were made with different n 100 (first), 1000 (second).\n"


MISTAKES = {
    "first --paired": "paired: got 1 log, expected two, on the same images.",
    "first first --paired": "paired: got 1 log, expected two, on the same images.",
    "first second third --paired": "paired: got 3 logs, expected two, on the same images.",
    "first empty --paired": "paired: got 1 log, expected two, on the same images. "
    "Left out: 1 log, empty (no row after the header): empty.",
    "first short --paired": "logs: got 4 and 3 images that differ, expected the same images.",
    "first others --paired": "logs: got other labels for 4 of 4 idx, expected the same images.",
    "first second --paired --seeds": "paired: got --paired with --seeds, expected one of the two.",
    "first second --paired --envelope": "paired: got --paired with --envelope, expected one of the two.",
    "first second --paired --attacks": "attacks: got --attacks with --paired, expected one of the two.",
    "first second --paired --recipe": "recipe: got --recipe with --paired, expected one of the two.",
    "first second --paired --radii x": "radii: got 'x', expected numbers separated by commas, such as 0,0.25,0.5.",
    "first second --paired --format html": "format: got 'html', expected one of text, markdown, csv, latex.",
    "first nowhere --paired": "PATH: got nowhere, which does not exist, expected a log, a run or a folder of logs.",
}


@pytest.mark.parametrize("command", MISTAKES)
def test_a_mistake_is_one_sentence(logs, tmp_path, monkeypatch, capsys, command):
    write(tmp_path / "third", FIRST)
    write(tmp_path / "short", FIRST, order=(0, 1, 2))
    published_log(tmp_path / "empty", [])
    rows = "".join(f"{i}\t9\t9\t0.5\t1\t0:00:01\n" for i in range(4))
    (tmp_path / "others").write_text(HEADER + rows, encoding="utf-8")
    code, out, err = call(monkeypatch, capsys, "table", *command.split())
    assert (code, out, err) == (2, "", f"rslab: {MISTAKES[command]}\n")
