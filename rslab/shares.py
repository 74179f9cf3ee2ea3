"""One log, by one process or by many: begun or resumed with the settings that made it beside it.

Of many, the images are dealt out by index: rank r takes every size-th of those that the log lacks and
appends their rows to `.NAME.tsv.part-r`, without a header, so that nobody takes a part for a log. When
all are through, rank 0 puts the rows in the order of their images, replaces the log whole and deletes
the parts: the file that one process would have written. What a job leaves that died is gathered at the
next resume, by any number of processes.

All ranks must see the folder of the log.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from glob import escape
from pathlib import Path

from rslab import records
from rslab.distributed import agree, wait_for_all, world
from rslab.errors import InputError, check_new_file

BEFORE = {"sampler": "float", "compile": False}  # what settings that older logs lack were
SINCE = ("normalization", "source_weights_normalization", "slack", "between")  # in which older logs are silent
NOT_COMPARED = ("max", "skip", "batch")  # settings that change no row


@dataclass
class Share:
    """This process's part of a log: the images still to do and the file for their rows."""

    log: Path
    todo: list[int]
    rows: Path  # the log itself, or this rank's part of it
    done: int  # rows that the log held at the start
    claim: records.Claim | None  # rank 0 holds the log for all

    def append(self, row: tuple) -> None:
        """Append one row; `WorkError` if that fails."""
        records.append_row(self.rows, row)

    def during(self, steps: Iterator[tuple]) -> Iterator[tuple]:
        """`steps`, which append the rows of `todo`; after the last of all ranks the log is whole and in order."""
        try:
            yield from steps
            wait_for_all()
            if self.claim is not None:
                _settle(self.log)
            wait_for_all()
        finally:
            if self.claim is not None:
                self.claim.release()


def open_share(log: Path, columns: tuple[str, ...], settings: dict, chosen: list[int], resume: bool) -> Share:
    """Begin or resume a log of the images `chosen`, as `open_log` does, and take this rank's share.

    Raises `InputError` for more processes than images, a log that exists or was made with
    other settings, and parts whose log is gone.
    """
    log, place = Path(log), world()
    if place.size > max(len(chosen), 1):
        raise InputError(f"processes: got {place.size} for {len(chosen)} images, expected at most one an image.")
    claim, done = None, set[int]()
    if place.first:
        if (parts := _parts(log)) and not log.exists():
            raise InputError(f"out: got {parts[0]} without {log.name} beside it, expected both, or neither.")
        done, claim = open_log(log, columns, settings, resume, bool(parts))
        if parts:
            _settle(log)
            claim.release()  # the file may be another now
            claim, done = records.Claim(log), set(records.read_log(log).idx)
    agree((columns, settings, chosen))
    if not place.first:
        done = set(records.read_log(log).idx)
    todo = [index for index in chosen if index not in done]
    if place.size == 1:
        return Share(log, todo, log, len(done), claim)
    rows = log.with_name(f".{log.name}.part-{place.rank}")
    return Share(log, todo[place.rank :: place.size], rows, len(done), claim)


def _parts(log: Path) -> list[Path]:
    return sorted(log.parent.glob(f".{escape(log.name)}.part-*"))


def _settle(log: Path) -> None:
    """Put the rows of all parts into the log, by image, each image once; leaves a log in order without parts alone."""
    parts = _parts(log)
    held = log.read_text(encoding="utf-8").splitlines(keepends=True)
    lines = list(held)
    for part in parts:
        records.drop_torn_row(part)
        lines += part.read_text(encoding="utf-8").splitlines(keepends=True)
    rows: dict[int, str] = {}
    for line in lines[1:]:
        rows.setdefault(_image(line, log), line)  # a kill between replacing and deleting leaves rows in both
    ordered = [lines[0], *(rows[index] for index in sorted(rows))]
    if ordered != held:
        records.write_whole(log, lambda file: _write_checked(file, "".join(ordered)))
    for part in parts:
        part.unlink()


def _image(line: str, log: Path) -> int:
    index = line.split("\t", 1)[0]
    if not index.isdecimal():
        raise InputError(f"{log}: got a row {line[:40]!r} in it or in a part of it, expected it to begin with an idx.")
    return int(index)


def _write_checked(file: Path, text: str) -> None:
    file.write_text(text, encoding="utf-8", newline="")
    records.read_log(file)


# -- a log and its settings ------------------------------------------------------------------


def open_log(
    log: Path, columns: tuple[str, ...], settings: dict, resume: bool, parts: bool = False
) -> tuple[set[int], records.Claim]:
    """Begin a log with its settings beside it or, to resume, the images that it holds already; and hold it.

    A log without a row is begun anew, unless it has `parts` (of many processes, above).
    """
    log = check_place(log)
    created = not log.exists()
    if created:
        records.append_text(log, "")
    claim = records.Claim(log)  # all that follows is this process's alone
    try:
        return _begin_or_resume(log, columns, settings, resume, parts), claim
    except BaseException:
        if created and not log.stat().st_size:
            log.unlink()
        claim.release()
        raise


def _begin_or_resume(log: Path, columns: tuple[str, ...], settings: dict, resume: bool, parts: bool) -> set[int]:
    beside, header = records.settings_path(log), records.log_row(columns).encode()
    begun = parts or log.stat().st_size > len(header) or not header.startswith(log.read_bytes())
    if begun and not resume:
        raise InputError(f"out: got {log}, which exists, expected a new file, or --resume to go on with it.")
    if begun and not beside.exists():
        raise InputError(f"out: got {log} without {beside.name} beside it, expected both, to resume.")
    if begun:
        theirs = records.read_json(beside)
        settings = {key: value for key, value in settings.items() if key in theirs or key not in SINCE}
        for key, new, old in differences(settings, theirs):
            raise InputError(f"{key}: got {new!r}, expected {old!r} as {log} began.")
    elif beside.exists():
        _check_ours(beside, log)
    records.write_json(beside, settings)
    records.drop_torn_row(log)
    if log.stat().st_size == 0:
        records.append_row(log, columns)
        return set()
    return set(records.read_own_log(log, columns).idx)


def check_place(log: Path, resume: bool = True) -> Path:
    """Return `log` if a log may stand there, and be begun or, with `resume`, gone on with: before a model is loaded."""
    log = check_new_file("out", Path(log))
    if log.suffix == ".json":
        raise InputError(
            f"out: got {log}, expected another ending: the settings are written to {records.settings_path(log)}."
        )
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
        theirs = beside in (records.settings_path(other), other.with_suffix(".json"))  # the latter until 0.1
        if theirs and other != log and (records.is_log(other) or records.is_log(other, attack=True)):
            raise InputError(f"out: got {log}, whose settings would replace those of {other}, expected another name.")
    if "weights" not in records.read_json(beside):
        raise InputError(f"out: got {log}, whose settings would replace {beside}, expected another name.")
