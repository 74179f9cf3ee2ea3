"""The folder of the course: which one belongs to the place of a call, and copies to work in or to project."""

import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rslab.errors import InputError, WorkError

MARK = ".rslab-course"  # in a copy to work in: the version it was made of, and whether it was made to its end
IGNORED = {".ipynb_checkpoints"}


@dataclass(frozen=True)
class Here:
    """What a folder belongs to: a kit (a clone of the repository), a kept copy of the course, or neither."""

    kit: Path | None
    copy: Path | None


def found_from(start: Path) -> Here:
    """The kit and the kept copy in which `start` lies; of a kit in a copy only the kit counts."""
    copy = None
    for folder in (start, *start.parents):
        if (folder / "notebooks" / "00_start_here.ipynb").is_file() and (folder / "rslab" / "__init__.py").is_file():
            return Here(folder, copy)
        if copy is None and (folder / MARK).is_file():
            copy = folder
    return Here(None, copy)


def version_of(kit: Path) -> str:
    """The version of the package in a kit."""
    found = re.search(r'^__version__ = "(.*)"', (kit / "rslab" / "__init__.py").read_text(encoding="utf-8"), re.M)
    return found[1] if found else "unknown"


def why_not_writable(folder: Path) -> str:
    """What the system says where nothing can be written in `folder`, or where it would be made; "" if all is well.

    Permissions alone do not tell: of root, of a file system that is read-only, or full, or a quota used up.
    """
    while not os.path.exists(folder):
        folder = folder.parent
    trial = folder / f".rslab-{os.getpid()}"
    try:
        with trial.open("xb") as file:
            try:
                file.write(bytes(4096))
                file.flush()
                os.fsync(file.fileno())
            finally:
                file.close()
                trial.unlink()
    except OSError as error:
        return error.strerror or str(error)
    return ""


def kept_copy(course: Path, version: str, folder: Path) -> str:
    """Make `folder` a copy of the course to work in, unless it is one already; a sentence where that is of another kit.

    No file that is there is written again. What was interrupted is completed.
    `InputError` where the folder holds something else.
    """
    mark = folder / MARK
    if mark.is_file():
        made = _read_mark(mark)
    elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"work: got {folder}, which holds something else, expected a new folder or a copy made so.")
    else:
        made = {"version": version, "complete": False}
        folder.mkdir(parents=True, exist_ok=True)
        mark.write_text(json.dumps(made), encoding="utf-8")
    if made["version"] != version:
        return (
            f"This copy was made of version {made['version']}, the kit is version {version}: "
            "a cell may fail. --work with a new folder makes a new copy."
        )
    if not made["complete"]:
        copy_course(course, folder)
        mark.write_text(json.dumps({**made, "complete": True}), encoding="utf-8")
    return ""


def _read_mark(mark: Path) -> dict:
    try:
        made = json.loads(mark.read_text(encoding="utf-8"))
        return {"version": str(made["version"]), "complete": bool(made["complete"])}
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"{mark}: got no version and completeness, expected what `rslab lab --work` wrote.") from error


def copy_course(course: Path, folder: Path) -> None:
    """Copy what `folder` lacks, each file whole or not at all, and free to be changed; else `WorkError`.

    (`shutil.copytree` goes on when the disk is full, and then names every file.)
    """
    for path in _files(course):
        copy = folder / path.relative_to(course)
        if not copy.exists():
            part = copy.with_name(f".{copy.name}.part")
            try:
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, part)
                part.replace(copy)
            except OSError as error:
                part.unlink(missing_ok=True)
                raise WorkError(f"{copy}: could not be written ({error.strerror or error}).") from error


def _files(course: Path) -> Iterator[Path]:
    for path in sorted(course.rglob("*")):
        if path.is_file() and not IGNORED & {*path.relative_to(course).parts} and path.name != MARK:
            yield path


def projected(course: Path, copy: Path) -> Path:
    """A copy of the notebooks in which a code cell shows its output only, but for the exercises."""
    copy_course(course, copy)
    for path in sorted(copy.rglob("*.ipynb")):
        notebook = json.loads(path.read_text(encoding="utf-8"))
        for cell in notebook["cells"]:
            exercise = "raises-exception" in cell["metadata"].get("tags", [])
            if cell["cell_type"] == "code" and not exercise:
                cell["metadata"].setdefault("jupyter", {})["source_hidden"] = True
        path.write_text(json.dumps(notebook), encoding="utf-8")
    return copy
