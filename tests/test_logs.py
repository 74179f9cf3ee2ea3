"""`read_log`: what a log may be, and every way in which a file is none."""

import pytest

from rslab.errors import InputError
from rslab.store import files, logs
from rslab.store.logs import open_log

PUBLISHED = "idx\tlabel\tpredict\tradius\tcorrect\ttime\n"
OURS = PUBLISHED[:-1] + "\tcount_a\tn\tn0\talpha\n"
ATTACK = "idx\tlabel\tpredict\tbasePredict\tcorrect\ttime\n"


def log(tmp_path, text, encoding="utf-8"):
    path = tmp_path / "certify.tsv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
    return path


def published(*rows: str) -> str:
    return PUBLISHED + "".join(row.replace(" ", "\t") + "\n" for row in rows)


GOOD = ("0 3 3 0.1090 1 0:00:14.419162", "20 7 1 0.1797 0 0:00:14.3", "40 4 -1 0.0 0 1:02:03")


def test_a_published_log_is_read(tmp_path):
    read = logs.read_log(log(tmp_path, published(*GOOD)))
    assert list(read.columns) == PUBLISHED.split()
    assert read.idx.tolist() == [0, 20, 40] and read.predict.tolist() == [3, 1, -1]
    assert read.radius.tolist() == [0.1090, 0.1797, 0.0] and read.correct.tolist() == [1, 0, 0]


def test_our_log_and_an_attack_log_are_read(tmp_path):
    ours = OURS + "0\t3\t3\t0.25\t1\t0:00:01\t990\t1000\t100\t0.001\n" + "1\t3\t3\t0.3\t1\t0:00:01\t99.5\t100\t1\t0.5\n"
    read = logs.read_log(log(tmp_path, ours))
    assert (
        read.n.tolist() == [1000, 100] and read.count_a.tolist() == [990, 99.5] and read.alpha.tolist() == [0.001, 0.5]
    )
    read = logs.read_log(log(tmp_path, ATTACK + "0\t3\t-1\t5\t0\t0:00:01\n"))
    assert read.basePredict.tolist() == [5]


def test_windows_line_ends_a_missing_last_one_and_a_day_are_read(tmp_path):
    text = published(*GOOD)
    assert logs.read_log(log(tmp_path, text.replace("\n", "\r\n"))).equals(logs.read_log(log(tmp_path, text)))
    assert len(logs.read_log(log(tmp_path, text.rstrip("\n")))) == 3
    assert len(logs.read_log(log(tmp_path, published("0 3 3 0.1 1 DAY").replace("DAY", "1 day, 2:03:04.5")))) == 1


def test_a_log_without_rows_is_empty(tmp_path):
    for text in (PUBLISHED, PUBLISHED[:-1]):
        read = logs.read_log(log(tmp_path, text))
        assert len(read) == 0 and list(read.columns) == PUBLISHED.split()


def test_radii_come_back_exactly(tmp_path):
    path = log(tmp_path, OURS)
    radii = (0.1 + 0.2, 1 / 3, 5e-324, 0.9528599999999999)
    for idx, radius in enumerate(radii):
        logs.append_row(path, (idx, 3, 3, radius, 1, "0:00:01", 990, 1000, 100, 0.001))
    assert tuple(logs.read_log(path).radius) == radii


@pytest.mark.parametrize(
    "row, match",
    [
        ("60 3 3 0.1", "4 fields in line 5, expected the 6"),  # truncated
        ("60 3 3 0.1 1", "line 5"),
        ("60 3 3 0.1 1 0:00:14 extra", "7 fields in line 5"),
        ("", "line 5"),
        ("60 3 3 nan 1 0:00:14", "radius.* line 5"),
        ("60 3 3 NaN 1 0:00:14", "radius"),
        ("60 3 3 inf 1 0:00:14", "radius"),
        ("60 3 3 1e999 1 0:00:14", "radius"),
        ("60 3 3 -0.1 1 0:00:14", "radius = -0.1 in line 5, expected a finite number, 0 or more"),
        ("60 3 3 many 1 0:00:14", "radius = 'many' in line 5, expected a number"),
        ("60 3 3 0,1 1 0:00:14", "radius = '0,1' in line 5, expected a number"),
        ("60 3.5 3 0.1 1 0:00:14", "label = '3.5' in line 5, expected a whole number"),
        (f"{'9' * 30} 3 3 0.1 1 0:00:14", "idx = '9999.*in line 5, expected a whole number"),
        ("60 3 \x003 0.1 1 0:00:14", "NUL byte in line 5"),
        ("60 3 3 0.1 1 \x000:00:14", "line 5"),
        ("20 7 1 0.1797 0 0:00:14", "idx = 20 for the second time in line 5"),
        ("-1 3 3 0.1 1 0:00:14", "idx = -1 in line 5, expected 0 or more"),
        ("60 3 3 0.1 0 0:00:14", "correct = 0 in line 5, expected 1"),
        ("60 3 4 0.1 1 0:00:14", "correct = 1 in line 5, expected 0"),
        ("60 3 3 0.1 2 0:00:14", "correct = 2 in line 5, expected 0 or 1"),
        ("60 3 3 0.1 yes 0:00:14", "correct = 'yes' in line 5, expected 0 or 1"),
        ("60 3 -1 0.1 0 0:00:14", "radius = 0.1 in line 5, expected 0 for an abstention"),
        ("60 3 -1 -0.1 0 0:00:14", "radius = -0.1 in line 5"),
        ("60 3 -2 0.0 0 0:00:14", "predict = -2 in line 5, expected a class, or -1"),
        ("60 -1 -1 0.0 1 0:00:14", "label = -1 in line 5, expected a class"),
        (PUBLISHED.strip().replace("\t", " "), "the header again in line 5"),
        ("60,3,3,0.1,1,0:00:14", "1 field in line 5, expected the 6 of the header, separated by tabs"),
    ],
)
def test_a_bad_row_is_refused_with_its_line(tmp_path, row, match):
    with pytest.raises(InputError, match=match) as caught:
        logs.read_log(log(tmp_path, published(*GOOD, row, *(() if row else (GOOD[0],)))))
    assert str(caught.value).startswith(str(tmp_path)) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "tail",
    ["990\t1000\t100\t0", "990\t1000\t100\t1", "990\t1000\t100\tnan", "990\t0\t100\t0.1", "990\t1000\t0\t0.1"]
    + ["1001\t1000\t100\t0.1", "-1\t1000\t100\t0.1", "nan\t1000\t100\t0.1"],
)
def test_impossible_counts_are_refused(tmp_path, tail):
    with pytest.raises(InputError, match="line 2"):
        logs.read_log(log(tmp_path, OURS + f"0\t3\t3\t0.25\t1\t0:00:01\t{tail}\n"))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"epoch\tlr\ttrain loss\n0\t0.1\t2.3\n",
        b"idx,label,predict,radius,correct,time\n0,3,3,0.1,1,0:00:14\n",
        PUBLISHED.replace("radius", "Radius").encode(),
        b"idx label predict radius correct time\n",
        published(*GOOD).encode("utf-16"),
        PUBLISHED.encode() + b"0\t3\t3\t0.1\t1\t0:00:14\xff\n",
        b"\x00" * 1000,
    ],
)
def test_a_foreign_file_is_refused(tmp_path, content):
    with pytest.raises(InputError, match="certify.tsv: got"):
        logs.read_log(log(tmp_path, content))


@pytest.mark.parametrize(
    "first, match",
    [
        ("idx label predict radius correct time", "fields separated by spaces in the first line, expected .* by tabs"),
        ("idx,label,predict,radius,correct,time", "fields separated by commas in the first line, expected .* by tabs"),
        ("idx; label; predict; radius; correct", "fields separated by semicolons"),
        ("idx\tlabel\tpredict\tcorrect\ttime", "no column 'radius' in the first line"),
        ("idx\tpredict\tradius\tcorrect", "no column 'label' in the first line"),
        ("idx\tlabel\tpredict\tradius\tcorrect\tradius", "the column 'radius' twice"),
        ("0\t3\t3\t0.1090\t1\t0:00:14.419162", "no header line, expected idx label predict radius correct"),
        ("image\ttruth\tanswer", "the first line 'image.*expected idx label predict radius correct"),
    ],
)
def test_a_first_line_that_is_no_header_is_refused_by_what_it_is(tmp_path, first, match):
    with pytest.raises(InputError, match=match):
        logs.read_log(log(tmp_path, "\n".join((first, *published(*GOOD).split("\n")[1:]))))


def rewritten(change) -> str:
    """The lines of the good log, as lists of fields, after `change`."""
    lines = [line.split("\t") for line in published(*GOOD).splitlines()]
    return "".join("\t".join(change(number, fields)) + "\n" for number, fields in enumerate(lines))


AS_PEOPLE_HAVE_THEM = {
    "a byte order mark": "\ufeff" + published(*GOOD),
    "empty lines at the end": published(*GOOD) + "\n \t\n\r\n",
    "tabs and blanks at the ends": rewritten(lambda number, fields: [*fields, "", " "]),
    "carriage returns twice": published(*GOOD).replace("\n", "\r\r\n"),
    "carriage returns alone": published(*GOOD).replace("\n", "\r"),
    "an index column that the header leaves out": rewritten(
        lambda number, fields: [f'"{number}"', *fields] if number else [f'"{name}"' for name in fields]
    ),
    "an index column without a name": rewritten(lambda number, fields: [str(number - 1) if number else "", *fields]),
    "columns between": rewritten(lambda number, fields: [*fields[:3], "p_A" if not number else "0.7", *fields[3:]]),
    "another order": rewritten(lambda number, fields: fields[::-1]),
    "time in seconds": rewritten(lambda number, fields: [*fields[:5], "time" if not number else "15.4"]),
    "time that is empty": rewritten(lambda number, fields: [*fields[:5], "time" if not number else ""]),
    "no time": rewritten(lambda number, fields: fields[:5]),
    "true and false": rewritten(
        lambda number, fields: [*fields[:4], {"1": "True", "0": "False"}.get(fields[4], fields[4]), fields[5]]
    ),
    "a spreadsheet's numbers": rewritten(
        lambda number, fields: fields if not number else [f"{field}.0" for field in fields[:3]] + fields[3:]
    ),
    "quotation marks": rewritten(lambda number, fields: [f'"{field}"' for field in fields]),
    "a column n of somebody else": rewritten(lambda number, fields: [*fields, "n" if not number else "many"]),
}


@pytest.mark.parametrize("name", AS_PEOPLE_HAVE_THEM)
def test_a_log_is_read_as_people_have_it(tmp_path, name):
    plain = logs.read_log(log(tmp_path, published(*GOOD))).drop(columns="time")
    path = log(tmp_path, AS_PEOPLE_HAVE_THEM[name])
    assert logs.read_log(path)[list(plain.columns)].equals(plain) and logs.is_log(path)


def test_lines_are_counted_in_the_file_whatever_their_ends(tmp_path):
    for end in ("\n", "\r\n", "\r"):
        with pytest.raises(InputError, match="radius = nan in line 5,"):
            logs.read_log(log(tmp_path, published(*GOOD, "60 3 3 nan 1 0:00:14").replace("\n", end)))


@pytest.mark.parametrize(
    "text",
    [
        "".join(published(*GOOD).splitlines(keepends=True)[1:]),
        "0\t3\t-1\t5\t0\t0:00:01\n1\t3\t3\t3\t1\t0:00:01\n",  # of attacks
        published(*GOOD).replace("\t", ","),
        published(*GOOD).replace("\t", "  "),
        published(*GOOD).replace("radius", "Radius"),
        "# sigma 0.25\n" + published(*GOOD),
        "\n" + published(*GOOD),
        "number\ttruth\tanswer\tR\tright\ttook\n" + "".join(published(*GOOD).splitlines(keepends=True)[1:]),
        "idx\tlabel\tpredict\tcorrect\ttime\n0\t3\t3\t1\t0:00:01\n",
    ],
)
def test_a_file_that_is_like_a_log_is_known_as_such(tmp_path, text):
    path = log(tmp_path, text)
    assert logs.looks_like_log(path) and not logs.is_log(path)
    with pytest.raises(InputError):
        logs.read_log(path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"The columns are idx, label, predict, radius, correct and time, as in the field.\n",
        b'{"epoch": 1, "loss": 0.5}\n{"epoch": 2, "loss": 0.4}\n',
        b"epoch\tlr\ttrain loss\n0\t0.1\t2.3\n",
        b"0,0,5,13,9,1,0,0\n0,0,0,12,13,5,0,0\n",
        b"5.1,3.5,1.4,0.2,setosa\n",
        b"\x93NUMPY\x01\x00v\x00{'descr': '<f8'}\n",
    ],
)
def test_another_file_is_not_like_a_log(tmp_path, content):
    assert not logs.looks_like_log(log(tmp_path, content))


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    for path in (tmp_path / "absent", tmp_path):
        with pytest.raises(InputError, match="expected a log"):
            logs.read_log(path)


def test_is_log_looks_at_the_first_columns(tmp_path):
    assert logs.is_log(log(tmp_path, PUBLISHED)) and logs.is_log(log(tmp_path, OURS))
    assert not logs.is_log(log(tmp_path, "idx\tlabel\n")) and not logs.is_log(tmp_path / "absent")


@pytest.mark.parametrize("torn", ["3\t7\t7", "3", "3\t7\t7\t0.25\t1\t0:00:01"])
def test_a_torn_row_is_cut_off_and_nothing_else(tmp_path, torn):
    whole = published(*GOOD)
    path = log(tmp_path, whole + torn)
    logs.drop_torn_row(path)
    assert path.read_text(encoding="utf-8") == whole
    logs.drop_torn_row(path)
    assert path.read_text(encoding="utf-8") == whole


def test_a_torn_header_leaves_an_empty_file(tmp_path):
    path = log(tmp_path, "idx\tlab")
    logs.drop_torn_row(path)
    assert path.read_text(encoding="utf-8") == ""


@pytest.mark.parametrize(
    "change",
    [
        lambda text: "\ufeff" + text,
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text + "\n",
        lambda text: text.replace("\ttime", "\ttime\tnote").replace("0:00:01", "0:00:01\t-"),
        lambda text: text.replace("label\tpredict", "predict\tlabel"),
        lambda text: text.replace("0:00:01\t", "0:00:01\t \t"),
    ],
)
def test_a_log_in_a_form_that_we_do_not_write_is_read_but_not_resumed(tmp_path, change):
    columns = logs.CERTIFY_COLUMNS + logs.COUNT_COLUMNS
    row = "0\t3\t3\t0.25\t1\t0:00:01\t990\t1000\t100\t0.001\n"
    path = log(tmp_path, OURS + row)
    files.write_json(logs.settings_path(path), {"weights": "abc"})
    done, claim = open_log(path, columns, {"weights": "abc"}, resume=True)
    claim.release()
    assert done == {0}
    changed = log(tmp_path, change(OURS + row)).read_bytes()
    with pytest.raises(InputError, match="certify.tsv: got"):
        open_log(path, columns, {"weights": "abc"}, resume=True)
    assert path.read_bytes() == changed
