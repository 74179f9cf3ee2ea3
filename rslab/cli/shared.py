"""What several commands share: options, a bar, and where a log goes."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from rslab.errors import InputError, check_new_file
from rslab.machine import distributed

Device = Annotated[str, Parameter(help="auto (CUDA when there is one), cpu, cuda or cuda:N")]
Resume = Annotated[bool, Parameter(help="Go on with an interrupted run or log")]
Options = Parameter(name="*")  # the fields of a dataclass as options
Run = Annotated[Path, Parameter(name="RUN", help="A run folder, or a published checkpoint.pth.tar")]
Dataset = Annotated[str | None, Parameter(help="Another data set than the run's own")]
Normalization = Annotated[str, Parameter(help="Checkpoint's first layer: auto, standard or center")]
Arch = Annotated[str | None, Parameter(help="The run's own network, mypackage.net:build, once more: it is code")]


def bar(steps: Iterator, total: int, done: int, title: str) -> Iterator:
    """A tqdm bar around the steps of a stage; where training reports a loss, it shows it."""
    from tqdm import tqdm

    with tqdm(total=total, initial=done, desc=title, file=sys.stderr, dynamic_ncols=True, mininterval=0.5) as progress:
        for step in steps:
            if isinstance(step, dict):
                progress.set_postfix(loss=f"{step['loss']:.3f}", accuracy=f"{step['accuracy']:.1%}")
            progress.update()
            yield step


def finish(steps: Iterator) -> None:
    """Carry out every step of an iterator whose values nobody needs."""
    for _ in steps:
        pass


def finish_rows(rows: Iterator, total: int, log: Path, resume: bool, title: str) -> None:
    """Carry out the rows of this process's share, with a bar."""
    done = max(log.read_bytes().count(b"\n") - 1, 0) if resume and log.is_file() else 0
    size = distributed.world().size
    share = -(-(total - done) // size)  # rank 0's, whose bar is the one that is shown: no smaller than another's
    finish(bar(rows, done + share, done, title if size == 1 else f"{title}, 1st of {size} processes"))


def say(*notes: str) -> None:
    """Print on the standard error output what is not empty."""
    for note in filter(None, notes):
        print(note, file=sys.stderr)


def chosen_sigma(given: float | None, trained: float | None) -> float:
    """σ of the command line, or else of the run's training."""
    sigma = trained if given is None else given
    if sigma is None:
        raise InputError("sigma: got none, expected --sigma: this model was trained without noise, or does not say.")
    return sigma


def log_path(out: Path | None, run: Path, name: str) -> Path:
    """Where a log goes: into the run folder, unless it is said."""
    if out is None and not run.is_dir():
        raise InputError("out: got none, expected --out: a checkpoint file has no run folder for the log.")
    return check_new_file("out", out or run / name)
