"""`rslab reproduce`."""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from rslab.cli.shared import Device, bar
from rslab.errors import InputError, check_new_folder
from rslab.experiments import recipes
from rslab.machine.devices import choose_device
from rslab.report import formats, tables


def reproduce(
    recipe: Annotated[str, Parameter(name="RECIPE", help="A recipe that comes with rslab, or a recipe's file")],
    /,
    *,
    out: Annotated[Path | None, Parameter(help="Folder of the runs (default runs/RECIPE)")] = None,
    list: Annotated[bool, Parameter(help="Only show the stages, and minutes left as measured")] = False,
    minutes: Annotated[float | None, Parameter(help="Stop cleanly after so many minutes")] = None,
    device: Device = "auto",
):
    """Carry out a recipe: train, certify, table. What is complete is skipped, the rest resumed."""
    if list and minutes is not None:
        raise InputError(f"minutes: got {minutes:g} with --list, expected it without: nothing is carried out.")
    shipped = recipes.RECIPES / f"{recipe}.toml"
    path = shipped if shipped.is_file() and not Path(recipe).is_file() else Path(recipe)
    runs = recipes.read_recipe(path)
    out = check_new_folder("out", out or Path("runs") / path.stem)
    device = choose_device(device)
    if not list:
        complete = recipes.carry_out(runs, out, device=device, minutes=minutes, progress=bar)
        if complete:
            certified = [out / run.name for run in runs if run.certified]
            if certified:
                print(formats.format_table(tables.accuracy_table(tables.find_logs(certified).logs)))
            return
        print("Stopped by --minutes; the same command goes on.", file=sys.stderr)
    for stage in recipes.stages(runs, out):
        state = "complete" if stage.complete else f"{stage.done}/{stage.total}"
        left = (stage.total - stage.done) * (stage.seconds_each or 0) / 60
        estimate = "" if stage.complete else f"{left:6.1f} min left" if stage.seconds_each else "   not measured yet"
        print(f"{stage.run.name:28} {stage.kind:8} {state:>12} {estimate}")
