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

from rslab.errors import InputError
from rslab.machine.distributed import agree, wait_for_all, world
from rslab.store import files, logs
from rslab.store.logs import open_log


@dataclass
class Share:
    """This process's part of a log: the images still to do and the file for their rows."""

    log: Path
    todo: list[int]
    rows: Path  # the log itself, or this rank's part of it
    done: int  # rows that the log held at the start
    claim: files.Claim | None  # rank 0 holds the log for all

    def append(self, row: tuple) -> None:
        """Append one row; `WorkError` if that fails."""
        logs.append_row(self.rows, row)

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
            claim, done = files.Claim(log), set(logs.read_log(log).idx)
    agree((columns, settings, chosen))
    if not place.first:
        done = set(logs.read_log(log).idx)
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
        logs.drop_torn_row(part)
        lines += part.read_text(encoding="utf-8").splitlines(keepends=True)
    rows: dict[int, str] = {}
    for line in lines[1:]:
        rows.setdefault(_image(line, log), line)  # a kill between replacing and deleting leaves rows in both
    ordered = [lines[0], *(rows[index] for index in sorted(rows))]
    if ordered != held:
        files.write_whole(log, lambda file: _write_checked(file, "".join(ordered)))
    for part in parts:
        part.unlink()


def _image(line: str, log: Path) -> int:
    index = line.split("\t", 1)[0]
    if not index.isdecimal():
        raise InputError(f"{log}: got a row {line[:40]!r} in it or in a part of it, expected it to begin with an idx.")
    return int(index)


def _write_checked(file: Path, text: str) -> None:
    file.write_text(text, encoding="utf-8", newline="")
    logs.read_log(file)
