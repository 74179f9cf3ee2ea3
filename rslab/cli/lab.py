"""`rslab lab`."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from rslab.lectures.lab import open_lab


def lab(
    *,
    browser: Annotated[bool, Parameter(negative="--no-browser", help="Open a browser")] = True,
    present: Annotated[bool, Parameter(help="For a projector: a copy, code hidden, large")] = False,
    work: Annotated[Path | None, Parameter(help="Work in a copy of the course in this folder, made once")] = None,
    jupyterlab: Annotated[list[str] | None, Parameter(show=False)] = None,
) -> int:
    """Open the course in JupyterLab (on this computer only, with its token)."""
    return open_lab(browser, present, work, jupyterlab or ())
