"""`rslab lab`."""

from typing import Annotated

from cyclopts import Parameter

from rslab.lectures.lab import open_lab


def lab(
    *,
    browser: Annotated[bool, Parameter(negative="--no-browser", help="Open a browser")] = True,
    present: Annotated[bool, Parameter(help="For a projector: a copy, code hidden, large")] = False,
) -> int:
    """Open the course in JupyterLab (on this computer only, with its token)."""
    return open_lab(browser, present)
