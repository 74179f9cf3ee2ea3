"""Logs of certification and attack: a row an image, ours and the field's; and the settings beside ours."""

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd

from rslab.errors import InputError, check_file, check_new_file, check_path
from rslab.store import files
from rslab.store.files import append_text, reason_of

# The field's columns (Cohen et al. 2019), then ours.
CERTIFY_COLUMNS = ("idx", "label", "predict", "radius", "correct", "time")


COUNT_COLUMNS = ("count_a", "n", "n0", "alpha")


ATTACK_COLUMNS = ("idx", "label", "predict", "basePredict", "correct", "time")


LOG_BYTES = 256 * 2**20  # no log of a data set is larger


# -- logs --------------------------------------------------------------------------------


def log_row(values) -> str:
    """One line; floats in full precision (repr), never rounded up across a table's radius."""
    return "\t".join(str(value) for value in values) + "\n"


def append_row(path: Path, values) -> None:
    """Append one row to a log."""
    append_text(path, log_row(values))


def is_log(path: Path, *, attack: bool = False) -> bool:
    """Whether the first line of a file names the columns of a certification log (or of a log of attacks)."""
    return _is_header(_head(path)[:1], attack)


def _is_header(lines: list[str], attack: bool) -> bool:
    return any(_needed(attack) <= set(_fields(line)) for line in lines)


def looks_like_log(path: Path) -> bool:
    """Whether the first line or rows of a file are like those of a log, also of one that `read_log` refuses."""
    head = _head(path)
    if path.suffix == ".tsv" and not path.is_file() and not path.is_dir():
        return True  # a link to nothing, a pipe: named as our logs are
    if _is_header(head[:1], False) or _is_header(head[:1], True):
        return True
    if path.suffix in (".md", ".json", ".jsonl", ".py", ".ipynb", ".tex", ".html"):
        return False
    lines = [line for line in head if line.strip()]
    if lines and (named := len(_named(lines[0]))) >= 3 and ("\t" in lines[0] or 2 * named >= len(_words(lines[0]))):
        return True  # a header, no sentence about one
    return any(_like_rows(lines[start : start + 3]) for start in range(4))  # below a foreign header, or none


def drop_torn_row(path: Path) -> None:
    """Cut off what follows the last line break: the row during which a run was killed."""
    content = check_file(path, "a log", most=LOG_BYTES).read_bytes()
    if not content.endswith(b"\n"):
        with path.open("r+b") as file:
            file.truncate(content.rfind(b"\n") + 1)


def settings_path(log: Path) -> Path:
    """Where the settings of a log stand: NAME.json for NAME.tsv, and for any other NAME (sigma_0.25, as published)."""
    return log.with_name(log.name.removesuffix(".tsv") + ".json")


def read_log(path: Path, *, torn: bool = False) -> pd.DataFrame:
    """A certification or attack log, ours or published, as a table.

    Fields are separated by tabs and read by the name of their column: idx, label, predict and correct, and
    radius or basePredict (or both); `time`, as text, and the columns of `COUNT_COLUMNS` where they are there.
    Others are left out, as are a byte order mark, carriage returns, and white space at the ends.

    Refused with line, column, value and what was expected: a column that is not there, another number of
    fields than the header has, numbers that are none, a negative radius, an image twice, `correct` that
    does not follow from label and prediction. A log without rows gives an empty table. `torn`: a last
    line without its end, of a run that was killed or goes on, is left out.
    """
    path = check_path("path", path, "the path of a log")
    lines = _lines(path, torn)
    header = _header(lines[0], path)
    widths = {len(fields) * bool(fields[-1]) for fields in map(_fields, lines[1:])}
    if widths == {len(header) + 1}:  # R gives the numbers of the rows no name
        header = ["", *header]
    rows = [_row(line, number, header, path) for number, line in enumerate(lines[1:], start=2)]
    columns: dict[str, list] = {}
    for place, name in enumerate(header):
        texts = [row[place] for row in rows]
        if name in columns:
            continue  # only of what is not needed: the first counts
        if name == "time":
            columns[name] = texts
        elif name in NEEDED or (name in COUNT_COLUMNS and set(COUNT_COLUMNS) <= set(header)):
            columns[name] = _numbers(name, texts, path)
        elif name in COUNT_COLUMNS:  # another's column that happens to be called n, or our own n
            with suppress(InputError):
                columns[name] = _numbers(name, texts, path)
    types = {name: np.int64 if name in WHOLE else np.float64 for name in columns if name != "time"}
    log = pd.DataFrame(columns).astype({**types, **({"time": object} if "time" in columns else {})})
    _check_log(log, path)
    return log


NEEDED = ("idx", "label", "predict", "correct", "radius", "basePredict")  # one of the last two at least


WHOLE = ("idx", "label", "predict", "basePredict", "correct", "n", "n0")


_LINE_END = re.compile(r"\r*\n|\r")


def _needed(attack: bool) -> set[str]:
    return {*NEEDED[:4], "basePredict" if attack else "radius"}


def _lines(path: Path, torn: bool) -> list[str]:
    """The lines of a text file without their ends, and without empty ones after the last."""
    try:
        content = check_file(path, "a log", most=LOG_BYTES).read_bytes()
        if content.startswith(_UTF16):
            raise InputError(f"{path}: got text in UTF-16, expected a log in UTF-8.")
        if not content:
            raise InputError(f"{path}: got an empty file, expected a log.")
        lines = _LINE_END.split(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        number = error.object.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}: got bytes that are no UTF-8 in line {number}, expected a log.") from error
    except OSError as error:
        raise InputError(f"{path}: got no readable file ({reason_of(error)}), expected a log.") from error
    if torn and len(lines) > 1:
        lines.pop()
    while len(lines) > 1 and not lines[-1].strip():
        lines.pop()
    for number, line in enumerate(lines, start=1):
        if "\0" in line:
            raise InputError(f"{path}: got a NUL byte in line {number}, expected a log.")
    return lines


_UTF16 = (b"\xff\xfe", b"\xfe\xff")


def _head(path: Path) -> list[str]:
    """The first lines of a text file; none of any other."""
    try:
        with check_file(path).open("rb") as file:
            content = file.read(8192)
    except (OSError, InputError):
        return []
    text = content.decode("utf-16" if content.startswith(_UTF16) else "utf-8-sig", "ignore")
    return [line for line in _LINE_END.split(text)[:8] if "\0" not in line]  # NULs fill what a crash left unwritten


def _fields(line: str) -> list[str]:
    """What stands between tabs, without the quotation marks of a spreadsheet."""
    return [field.strip().strip('"') for field in line.split("\t")]


def _words(line: str) -> list[str]:
    """What stands between separators of any kind."""
    return [word.strip('"') for word in re.split(r"[\s,;|]+", line.strip())]


def _named(line: str) -> list[str]:
    """The columns of a log among the words of a line, in whatever case."""
    words = [word.lower() for word in _words(line)]
    return [name for name in NEEDED if name.lower() in words]


def _header(line: str, path: Path) -> list[str]:
    """The names of the columns, an unnamed one as ""; `InputError` where one that is needed is not there."""
    names = _fields(line)
    while names and not names[-1]:
        names.pop()
    for attack in (False, True):
        if _needed(attack) <= set(names):
            if twice := [name for name in NEEDED if names.count(name) > 1]:
                raise InputError(f"{path}: got the column {twice[0]!r} twice in the first line, expected it once.")
            return names
    raise InputError(f"{path}: got {_instead_of_header(line, names)}.")


def _instead_of_header(line: str, names: list[str]) -> str:
    columns = " ".join((*CERTIFY_COLUMNS[:5], "…"))
    if any(_needed(attack) <= set(_words(line)) for attack in (False, True)):
        kind = next(
            (kind for mark, kind in ((",", "commas"), (";", "semicolons"), ("|", "bars")) if mark in line), "spaces"
        )
        return f"fields separated by {kind} in the first line, expected fields separated by tabs"
    if len(_named(line)) >= 3:
        absent = next(name for name in (*NEEDED[:4], "radius") if name not in names)
        return f"no column {absent!r} in the first line {_short(line)}, expected {columns}, separated by tabs"
    if _like_rows([line]):
        return f"no header line, expected {columns} above the first row"
    first = f"the first line {_short(line)}" if line.strip() else "an empty first line"
    return f"{first}, expected {columns}, separated by tabs"


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:60] + "…")


_WHOLE = re.compile(r"-?\d+(\.0*)?")


_MEASURED = re.compile(r"\d*\.\d+([eE]-?\d+)?|.*\d+:\d\d:\d\d.*")  # a radius, or a time


def _like_rows(lines: list[str]) -> bool:
    """Whether lines read like rows of a log: three whole numbers, the verdict on the last two, and a radius or time."""
    rows = [_fields(line) if "\t" in line else _words(line) for line in lines]
    width = len(rows[0]) if rows else 0
    if width < 5 or any(len(row) != width for row in rows):
        return False
    for first in (0, 1):  # 1: behind the number of the row
        if not all(_WHOLE.fullmatch(text) for row in rows for text in row[first : first + 3]):
            continue
        others = list(zip(*(row[first + 3 :] for row in rows), strict=True))
        verdicts = [("1", "true") if float(row[first + 1]) == float(row[first + 2]) else ("0", "false") for row in rows]
        judged = any(
            all(text.lower() in verdict for text, verdict in zip(column, verdicts, strict=True)) for column in others
        )
        if judged and any(all(map(_MEASURED.fullmatch, column)) for column in others):
            return True
    return False


def _row(line: str, number: int, header: list[str], path: Path) -> list[str]:
    """The fields of one row, as many as the header has."""
    fields, width = _fields(line), len(header)
    if fields[:width] == header:
        raise InputError(f"{path}: got the header again in line {number}, expected the log of one run.")
    if not line.strip():
        raise InputError(f"{path}: got an empty line {number}, expected a row.")
    if not any(fields[width:]):
        del fields[width:]
    if len(fields) != width:
        count = f"{len(fields)} field" + "s" * (len(fields) != 1)
        raise InputError(
            f"{path}: got {count} in line {number}, expected the {width} of the header, separated by tabs."
        )
    return fields


def _numbers(name: str, texts: list[str], path: Path) -> list:
    """A column as numbers; `InputError` names the first field that is none."""
    if name == "correct":
        texts = [{"true": "1", "false": "0"}.get(text.lower(), text) for text in texts]
    kind = _whole if name in WHOLE else _real
    try:
        return list(map(kind, texts))
    except ValueError:
        for line, text in enumerate(texts, start=2):
            try:
                kind(text)
            except ValueError:
                what = "0 or 1" if name == "correct" else "a whole number" if name in WHOLE else "a number"
                what += " with a decimal point" * ("," in text)
                raise InputError(f"{path}: got {name} = {_short(text)} in line {line}, expected {what}.") from None
        raise


def _real(text: str) -> float:
    """A number as programs write it; Python's own 1_000 is none."""
    if "_" in text:
        raise ValueError(text)
    return float(text)


def _whole(text: str) -> int:
    """A whole number of 64 bits, also where a spreadsheet made it 3.0; else `ValueError`."""
    try:
        _real(text)
        value = int(text)
    except ValueError:
        if not (number := _real(text)).is_integer():
            raise
        value = int(number)
    if not -(2**63) <= value < 2**63:
        raise ValueError(text)
    return value


def _check_log(log: pd.DataFrame, path: Path) -> None:
    def refuse(wrong, name: str, expected: str, how: str = ""):
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            raise InputError(f"{path}: got {name} = {log[name][row]}{how} in line {row + 2}, expected {expected}.")

    refuse(log.idx < 0, "idx", "0 or more")
    refuse(log.idx.duplicated(), "idx", "every image once", " for the second time")
    refuse(log.label < 0, "label", "a class, 0 or more")
    for name in ("predict", "basePredict"):
        if name in log:
            refuse(log[name] < -1, name, "a class, or -1 for an abstention")
    refuse(~log.correct.isin((0, 1)), "correct", "0 or 1")
    refuse((log.correct == 1) & (log.label != log.predict), "correct", "0: label and predict differ there")
    refuse((log.correct == 0) & (log.label == log.predict), "correct", "1: label and predict are equal there")
    if "radius" in log:
        refuse(~np.isfinite(log.radius) | (log.radius < 0), "radius", "a finite number, 0 or more")
        refuse((log.predict == -1) & (log.radius > 0), "radius", "0 for an abstention")
    if set(COUNT_COLUMNS) <= set(log):
        refuse(log.n < 1, "n", "1 or more")
        refuse(log.n0 < 1, "n0", "1 or more")
        refuse(~(log.alpha > 0) | ~(log.alpha < 1), "alpha", "a number strictly between 0 and 1")
        refuse(~(log.count_a >= 0) | ~(log.count_a <= log.n), "count_a", "0 to n")


def read_own_log(path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    """A log to go on with: `read_log` of one that has exactly the form in which rslab writes rows of `columns`."""
    log = read_log(path)
    header, *rows = path.read_bytes().decode().split("\n")
    if header != log_row(columns)[:-1]:
        raise InputError(f"{path}: got columns {' '.join(_fields(header))}, expected {' '.join(columns)}.")
    for number, row in enumerate(rows[:-1], start=2):
        if row.count("\t") != len(columns) - 1 or row != row.strip():
            raise InputError(f"{path}: got line {number} as rslab writes none, expected rows of {' '.join(columns)}.")
    return log


BEFORE = {"sampler": "float", "compile": False}  # what settings that older logs lack were


SINCE = ("normalization", "source_weights_normalization", "slack", "between")  # in which older logs are silent


NOT_COMPARED = ("max", "skip", "batch")  # settings that change no row


# -- a log and its settings ------------------------------------------------------------------


def open_log(
    log: Path, columns: tuple[str, ...], settings: dict, resume: bool, parts: bool = False
) -> tuple[set[int], files.Claim]:
    """Begin a log with its settings beside it or, to resume, the images that it holds already; and hold it.

    A log without a row is begun anew, unless it has `parts` (of many processes, above).
    """
    log = check_place(log)
    created = not log.exists()
    if created:
        files.append_text(log, "")
    claim = files.Claim(log)  # all that follows is this process's alone
    try:
        return _begin_or_resume(log, columns, settings, resume, parts), claim
    except BaseException:
        if created and not log.stat().st_size:
            log.unlink()
        claim.release()
        raise


def _begin_or_resume(log: Path, columns: tuple[str, ...], settings: dict, resume: bool, parts: bool) -> set[int]:
    beside, header = settings_path(log), log_row(columns).encode()
    begun = parts or log.stat().st_size > len(header) or not header.startswith(log.read_bytes())
    if begun and not resume:
        raise InputError(f"out: got {log}, which exists, expected a new file, or --resume to go on with it.")
    if begun and not beside.exists():
        raise InputError(f"out: got {log} without {beside.name} beside it, expected both, to resume.")
    if begun:
        theirs = files.read_json(beside)
        settings = {key: value for key, value in settings.items() if key in theirs or key not in SINCE}
        for key, new, old in differences(settings, theirs):
            raise InputError(f"{key}: got {new!r}, expected {old!r} as {log} began.")
    elif beside.exists():
        _check_ours(beside, log)
    files.write_json(beside, settings)
    drop_torn_row(log)
    if log.stat().st_size == 0:
        append_row(log, columns)
        return set()
    return set(read_own_log(log, columns).idx)


def check_place(log: Path, resume: bool = True) -> Path:
    """Return `log` if a log may stand there, and be begun or, with `resume`, gone on with: before a model is loaded."""
    log = check_new_file("out", Path(log))
    if log.suffix == ".json":
        raise InputError(f"out: got {log}, expected another ending: the settings are written to {settings_path(log)}.")
    if not resume and log.exists() and log.read_bytes().count(b"\n") > 1:
        raise InputError(f"out: got {log}, which exists, expected a new file, or --resume to go on with it.")
    return log


def differences(ours: dict, theirs: dict) -> Iterator[tuple]:
    """(key, our value, theirs) of the settings in which two logs differ so that their rows may."""
    for key in sorted((ours.keys() | theirs.keys()) - set(NOT_COMPARED)):
        new, old = (values.get(key, BEFORE.get(key)) for values in (ours, theirs))
        if new != old:
            yield key, new, old


def _check_ours(beside: Path, log: Path) -> None:
    """The settings of a log that is gone may be replaced; another log's, or another kind of file, may not."""
    for other in log.parent.iterdir():
        theirs = beside in (settings_path(other), other.with_suffix(".json"))  # the latter until 0.1
        if theirs and other != log and (is_log(other) or is_log(other, attack=True)):
            raise InputError(f"out: got {log}, whose settings would replace those of {other}, expected another name.")
    if "weights" not in files.read_json(beside):
        raise InputError(f"out: got {log}, whose settings would replace {beside}, expected another name.")
