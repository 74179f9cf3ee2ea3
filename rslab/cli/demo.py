"""`rslab demo`."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from rslab.cli.shared import Device, bar
from rslab.errors import check_new_folder
from rslab.experiments.recipes import RECIPES, carry_out, read_recipe
from rslab.lectures.results import logs_figure
from rslab.machine.devices import choose_device
from rslab.report import formats, tables
from rslab.smoothing.bounds import RADII
from rslab.store.files import write_whole


def demo(
    *,
    out: Annotated[Path, Parameter(help="Folder for the two runs and the plot")] = Path("runs/demo"),
    device: Device = "auto",
):
    """Train a Gaussian and a SmoothAdv classifier on digits, certify both, print the table, save the plot."""
    check_new_folder("out", out)
    recipe = read_recipe(RECIPES / "demo.toml")
    carry_out(recipe, out, device=choose_device(device), progress=bar)
    found = tables.find_logs([out / run.name for run in recipe]).logs
    logs = dict(zip([run.name for run in recipe], found.values(), strict=True))
    first = recipe[0]
    print(
        f"\nCertified accuracy in % on {first.certify.max} test digits, σ = {first.train.sigma}, "
        f"n = {first.certify.n}, α = {first.certify.alpha}, by l2 radius:\n"
    )
    print(formats.format_table(tables.accuracy_table(logs, RADII[:5])))
    plot, figure = out / "certified_accuracy.png", logs_figure(logs, f"Embedded digits, σ = {first.train.sigma}")
    write_whole(plot, lambda file: figure.savefig(file, dpi=150, format="png"))
    print(f"\nPlot: {plot}\nRuns: {out}/gaussian and {out}/smoothadv (delete {out} to train again)")
