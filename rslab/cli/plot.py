"""`rslab plot`."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from rslab.cli.shared import say
from rslab.cli.table import Paths
from rslab.errors import InputError, check_new_file
from rslab.lectures.results import logs_figure
from rslab.report import tables
from rslab.store.files import write_whole

ENDINGS = (".pdf", ".png", ".svg")


def plot(
    paths: Paths,
    /,
    *,
    out: Annotated[Path, Parameter(help="Picture to write; its ending says which kind: pdf, png or svg")] = Path(
        "curves.pdf"
    ),
    title: Annotated[str, Parameter(help="Above the curves")] = "",
):
    """Draw certified accuracy over the radius, a curve a log, with 95 % intervals for the choice of images."""
    if check_new_file("out", out).suffix not in ENDINGS:
        raise InputError(f"out: got {str(out)!r}, expected a name that ends in one of {', '.join(ENDINGS)}.")
    found = tables.find_logs(paths)
    figure = logs_figure(found.logs, title)
    write_whole(out, lambda file: figure.savefig(file, dpi=150, format=out.suffix[1:]))
    say(tables.left_out_sentence(found.left_out), tables.on_other_images(found.logs), tables.made_differently(found))
    print(out)
