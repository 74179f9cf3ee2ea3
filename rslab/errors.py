"""One sentence for every mistake: the name, the value and what was expected.

The command line turns `InputError` into exit code 2 and `WorkError` into exit
code 1, both without a traceback; anything else is a bug and shows one.
"""

import math
import os
import stat
from collections.abc import Iterable
from numbers import Integral
from pathlib import Path
from typing import SupportsFloat

KINDS = {  # what may stand where a file is expected, and would never end, wait for ever or swallow what is written
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


MOST = 2**63 - 1  # the largest count that fits 64 bits


class InputError(ValueError):
    """The caller gave something that cannot be used."""


class WorkError(RuntimeError):
    """The input was fine, the work could not be done (no network, full disk, NaN loss …)."""


def _finite(value: float) -> bool:
    """Whether `value` is a finite number that fits 64 bits; True, text and lists are no numbers."""
    if isinstance(value, bool | str) or not isinstance(value, SupportsFloat):
        return False
    return abs(value) <= MOST if isinstance(value, int) else math.isfinite(value)


def _shown(value) -> str:
    """A value as a sentence shows it: text in quotation marks."""
    return repr(value) if isinstance(value, str) else str(value)


def check_positive(name: str, value: float) -> float:
    """Return `value` if it is a finite number above 0, else raise `InputError`."""
    if not (_finite(value) and value > 0):
        raise InputError(f"{name}: got {_shown(value)}, expected a number above 0.")
    return value


def check_at_least(name: str, value: float, low: float) -> float:
    """Return `value` if it is finite and ≥ `low`, else raise `InputError`."""
    if isinstance(value, int) and value > MOST:
        raise InputError(f"{name}: got {value}, expected at most {MOST}.")
    if not (_finite(value) and value >= low):
        raise InputError(f"{name}: got {_shown(value)}, expected {low} or more.")
    return value


def check_count(name: str, value: int) -> int:
    """Return `value` if it is a whole number, 1 or more, else raise `InputError`."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise InputError(f"{name}: got {_shown(value)}, expected a whole number.")
    return int(check_at_least(name, int(value), 1))


def check_open_unit(name: str, value: float) -> float:
    """Return `value` if 0 < value < 1, else raise `InputError`."""
    if not (_finite(value) and 0 < value < 1):
        raise InputError(f"{name}: got {_shown(value)}, expected a number strictly between 0 and 1.")
    return value


def check_choice(name: str, value: str, choices: Iterable[str]) -> str:
    """Return `value` if it is one of `choices`, else raise `InputError` that lists them."""
    choices = list(choices)
    if value not in choices:
        raise InputError(f"{name}: got {value!r}, expected one of {', '.join(choices)}.")
    return value


def check_kind(name: str, value, kind: type | tuple[type, ...], expected: str):
    """Return `value` if it is of this type, else raise `InputError`; `expected` says it in words."""
    if not isinstance(value, kind):
        raise InputError(f"{name}: got {type(value).__name__}, expected {expected}.")
    return value


def check_seed(value: int) -> int:
    """Return `value` if it is in the range that `randomness.generator_for` keeps distinct."""
    if not (_finite(value) and 0 <= value <= 1000):
        raise InputError(f"seed: got {_shown(value)}, expected 0 … 1000.")
    return value


# -- files and places ------------------------------------------------------------------------


def check_path(name: str, value: str | os.PathLike, expected: str) -> Path:
    """`value` as a `Path`, if it is text or a path, else raise `InputError`."""
    check_kind(name, value, (str, os.PathLike), expected)
    if not isinstance(os.fspath(value), str):
        raise InputError(f"{name}: got bytes, expected {expected}.")
    return Path(value)


def check_file(path: Path, expected: str = "a file", *, most: int | None = None) -> Path:
    """Return `path` if it is a regular file, of at most `most` bytes, that may be read; else raise `InputError`.

    Asked before anything is opened: a named pipe would wait for ever, a device never end.
    """
    status = _status(path)
    if status is None:
        raise InputError(f"{path}: got nothing at that place, expected {expected}.")
    if (kind := _kind(status)) is not None:
        raise InputError(f"{path}: got {kind}, expected {expected}.")
    if most is not None and status.st_size > most:
        raise InputError(f"{path}: got {status.st_size} bytes, expected {expected} of at most {most}.")
    if not os.access(path, os.R_OK):
        raise InputError(f"{path}: got a file that may not be read, expected {expected}.")
    return path


def check_new_file(name: str, path: Path) -> Path:
    """Return `path` if a file may be written there, a new one or one more time; else raise `InputError`."""
    status = _check_place(name, path, "a file")
    if status is not None and (kind := _kind(status)) is not None:
        raise InputError(f"{name}: got {path}, {kind}, expected a new file or a regular one.")
    return path


def check_new_folder(name: str, path: Path) -> Path:
    """Return `path` if a folder may be made there, or is there already; else raise `InputError`."""
    status = _check_place(name, path, "a folder")
    if status is not None and not stat.S_ISDIR(status.st_mode):
        raise InputError(f"{name}: got {path}, {_kind(status) or 'a file'}, expected a folder or a new one.")
    return path


def _check_place(name: str, path: Path, wanted: str) -> os.stat_result | None:
    """What is at `path`, if the name is one that could be given to something new and lies within a folder."""
    if path.name in ("", ".."):  # "", ".", "/", "..": what is written has, and may be deleted by, a name of its own
        raise InputError(f"{name}: got {str(path)!r}, expected the name of {wanted}.")
    for parent in path.parents:
        if (above := _status(parent)) is not None:
            if not stat.S_ISDIR(above.st_mode):
                raise InputError(f"{name}: got {path}, but {parent} is {_kind(above) or 'a file'}, expected a folder.")
            break
    return _status(path)


def _status(path: Path) -> os.stat_result | None:
    """What stands at `path`, links followed; None if nothing does."""
    try:
        return os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{str(path)[:80]}: could not be used ({reason}), expected a file or a folder.") from error


def _kind(status: os.stat_result) -> str | None:
    """What a thing is that is no regular file; None for one."""
    return None if stat.S_ISREG(status.st_mode) else KINDS.get(stat.S_IFMT(status.st_mode), "no file")
