"""`read_log`: what a log may be, and every way in which a file is none."""

import pytest

from rslab import records
from rslab.errors import InputError

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
    read = records.read_log(log(tmp_path, published(*GOOD)))
    assert list(read.columns) == PUBLISHED.split()
    assert read.idx.tolist() == [0, 20, 40] and read.predict.tolist() == [3, 1, -1]
    assert read.radius.tolist() == [0.1090, 0.1797, 0.0] and read.correct.tolist() == [1, 0, 0]


def test_our_log_and_an_attack_log_are_read(tmp_path):
    ours = OURS + "0\t3\t3\t0.25\t1\t0:00:01\t990\t1000\t100\t0.001\n" + "1\t3\t3\t0.3\t1\t0:00:01\t99.5\t100\t1\t0.5\n"
    read = records.read_log(log(tmp_path, ours))
    assert (
        read.n.tolist() == [1000, 100] and read.count_a.tolist() == [990, 99.5] and read.alpha.tolist() == [0.001, 0.5]
    )
    read = records.read_log(log(tmp_path, ATTACK + "0\t3\t-1\t5\t0\t0:00:01\n"))
    assert read.basePredict.tolist() == [5]


def test_windows_line_ends_a_missing_last_one_and_a_day_are_read(tmp_path):
    text = published(*GOOD)
    assert records.read_log(log(tmp_path, text.replace("\n", "\r\n"))).equals(records.read_log(log(tmp_path, text)))
    assert len(records.read_log(log(tmp_path, text.rstrip("\n")))) == 3
    assert len(records.read_log(log(tmp_path, published("0 3 3 0.1 1 DAY").replace("DAY", "1 day, 2:03:04.5")))) == 1


def test_a_log_without_rows_is_empty(tmp_path):
    for text in (PUBLISHED, PUBLISHED[:-1]):
        read = records.read_log(log(tmp_path, text))
        assert len(read) == 0 and list(read.columns) == PUBLISHED.split()


def test_radii_come_back_exactly(tmp_path):
    path = log(tmp_path, OURS)
    radii = (0.1 + 0.2, 1 / 3, 5e-324, 0.9528599999999999)
    for idx, radius in enumerate(radii):
        records.append_row(path, (idx, 3, 3, radius, 1, "0:00:01", 990, 1000, 100, 0.001))
    assert tuple(records.read_log(path).radius) == radii


@pytest.mark.parametrize(
    "row, match",
    [
        ("60 3 3 0.1", "line 5"),  # truncated
        ("60 3 3 0.1 1", "line 5"),
        ("60 3 3 0.1 1 0:00:0", "line 5"),
        ("60 3 3 0.1 1 0:00:14 extra", "line 5"),
        ("", "line 5"),
        ("60 3 3 nan 1 0:00:14", "radius.* line 5"),
        ("60 3 3 NaN 1 0:00:14", "radius"),
        ("60 3 3 inf 1 0:00:14", "radius"),
        ("60 3 3 1e999 1 0:00:14", "radius"),
        ("60 3 3 -0.1 1 0:00:14", "radius"),
        ("60 3 3 many 1 0:00:14", "no number"),
        ("60 3 3 0,1 1 0:00:14", "no number"),
        ("60 3.5 3 0.1 1 0:00:14", "no number"),
        (f"{'9' * 30} 3 3 0.1 1 0:00:14", "no number"),
        ("60 3 \x003 0.1 1 0:00:14", "no number"),
        ("60 3 3 0.1 1 \x000:00:14", "line 5"),
        ("20 7 1 0.1797 0 0:00:14", "second time in line 5"),
        ("-1 3 3 0.1 1 0:00:14", "negative idx"),
        ("60 3 3 0.1 0 0:00:14", "`correct`.* line 5"),
        ("60 3 4 0.1 1 0:00:14", "`correct`"),
        ("60 3 3 0.1 2 0:00:14", "`correct`"),
        ("60 3 -1 0.1 0 0:00:14", "abstention"),
    ],
)
def test_a_bad_row_is_refused_with_its_line(tmp_path, row, match):
    with pytest.raises(InputError, match=match) as caught:
        records.read_log(log(tmp_path, published(*GOOD, row, *(() if row else (GOOD[0],)))))
    assert str(caught.value).startswith(str(tmp_path)) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "tail",
    ["990\t1000\t100\t0", "990\t1000\t100\t1", "990\t1000\t100\tnan", "990\t0\t100\t0.1", "990\t1000\t0\t0.1"]
    + ["1001\t1000\t100\t0.1", "-1\t1000\t100\t0.1", "nan\t1000\t100\t0.1"],
)
def test_impossible_counts_are_refused(tmp_path, tail):
    with pytest.raises(InputError, match="line 2"):
        records.read_log(log(tmp_path, OURS + f"0\t3\t3\t0.25\t1\t0:00:01\t{tail}\n"))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"epoch\tlr\ttrain loss\n0\t0.1\t2.3\n",
        b"idx,label,predict,radius,correct,time\n0,3,3,0.1,1,0:00:14\n",
        PUBLISHED.replace("radius", "Radius").encode(),
        b"\xef\xbb\xbf" + PUBLISHED.encode(),
        published(*GOOD).encode("utf-16"),
        PUBLISHED.encode() + b"0\t3\t3\t0.1\t1\t0:00:14\xff\n",
        b"\x00" * 1000,
    ],
)
def test_a_foreign_file_is_refused(tmp_path, content):
    with pytest.raises(InputError, match="certify.tsv: got"):
        records.read_log(log(tmp_path, content))


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    for path in (tmp_path / "absent", tmp_path):
        with pytest.raises(InputError, match="expected a log"):
            records.read_log(path)


def test_is_log_looks_at_the_first_columns(tmp_path):
    assert records.is_log(log(tmp_path, PUBLISHED)) and records.is_log(log(tmp_path, OURS))
    assert not records.is_log(log(tmp_path, "idx\tlabel\n")) and not records.is_log(tmp_path / "absent")


@pytest.mark.parametrize("torn", ["3\t7\t7", "3", "3\t7\t7\t0.25\t1\t0:00:01"])
def test_a_torn_row_is_cut_off_and_nothing_else(tmp_path, torn):
    whole = published(*GOOD)
    path = log(tmp_path, whole + torn)
    records.drop_torn_row(path)
    assert path.read_text() == whole
    records.drop_torn_row(path)
    assert path.read_text() == whole


def test_a_torn_header_leaves_an_empty_file(tmp_path):
    path = log(tmp_path, "idx\tlab")
    records.drop_torn_row(path)
    assert path.read_text() == ""
