"""The commands beyond one run: `rslab table | reproduce | bench | data`; `cli` registers them."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from rslab.config import NOISY
from rslab.errors import InputError, WorkError, check_new_folder
from rslab.machine.devices import choose_device

Device = Annotated[str, typer.Option(help="auto (CUDA when there is one), cpu, cuda or cuda:N")]


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


RADII = "0,0.25,0.5,0.75,1,1.25,1.5,1.75,2,2.25"


def table(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH…", help="Logs, runs or folders, ours or published")],
    radii: Annotated[str, typer.Option(help="Radii, separated by commas")] = RADII,
    envelope: Annotated[bool, typer.Option("--envelope", help="Last row: at each radius the best model")] = False,
    seeds: Annotated[bool, typer.Option("--seeds", help="Mean ± deviation of runs that differ in their seed")] = False,
    attacks: Annotated[bool, typer.Option("--attacks", help="Read attack logs: accuracy of g by attack and ε")] = False,
    recipe: Annotated[bool, typer.Option("--recipe", help="Say how each run was trained, and how long")] = False,
    format: Annotated[str, typer.Option(help="text, markdown, csv or latex")] = "text",
):
    """Certified accuracy in % at each radius, and the average certified radius (ACR), one row a model."""
    from rslab.errors import check_choice
    from rslab.report import tables
    from rslab.smoothing import bounds

    grid = bounds.parse_radii(radii)
    check_choice("format", format, tables.FORMATS)
    if recipe and (seeds or attacks):
        raise InputError("recipe: got --recipe with --seeds or --attacks, expected it alone or with --envelope.")
    options = {"--seeds": seeds, "--envelope": envelope, "--radii": radii != RADII}
    if attacks and any(options.values()):
        given = next(name for name, value in options.items() if value)
        raise InputError(f"attacks: got --attacks with {given}, expected it without: logs of attacks have no radii.")
    if attacks:
        found, rows = tables.find_attacks(paths)
        print(tables.format_table(tables.attack_cells(rows), format, corner="attack \\ ε"))
        _say(tables.left_out_sentence(found.left_out))
        return _say(tables.on_other_images(found.logs), tables.made_differently(found))
    found = tables.find_logs(paths)
    logs, left_out = found.logs, found.left_out
    if envelope:
        logs, others = tables.comparable(logs, tables.MOSTLY)
        left_out = left_out | others
    groups: dict = {}
    if seeds:
        groups, others = tables.seed_groups(tables.Logs(logs, {}, found.files))
        left_out = left_out | others
        logs = {name: log for name, log in logs.items() if any(name in members for members in groups.values())}
    result = tables.accuracy_table(logs, grid)
    notes = [tables.left_out_sentence(left_out), tables.on_other_images(logs)]
    if envelope:
        best, models = tables.upper_envelope(result[list(grid)])
        notes += [f"Best at {radius:g}: {model}" for radius, model in models.items()]
        if not seeds:
            result.loc["envelope" if "envelope" not in logs else "envelope of all", best.index] = best
    if recipe:
        from rslab.report.tables import recipes

        made = recipes({name: file.parent for name, file in found.files.items() if name in result.index})
        result = made.join(result, how="right").fillna(dict.fromkeys(made.columns, ""))
    if seeds:
        result = tables.spread_table(result, groups)
        _say(*(f"{name}: mean of {', '.join(runs)}" for name, runs in groups.items() if len(runs) > 1))
    print(tables.format_table(result, format))
    for note in filter(None, notes):
        print(note, file=sys.stderr if format in ("csv", "latex") else sys.stdout)
    _say(tables.made_differently(tables.Logs(logs, {}, found.files)))


def _say(*notes: str) -> None:
    """Print on the standard error output what is not empty."""
    for note in filter(None, notes):
        print(note, file=sys.stderr)


def reproduce(
    plan: Annotated[str, typer.Argument(help="A plan that comes with rslab, or a plan file")],
    out: Annotated[Path | None, typer.Option(help="Folder of the runs (default runs/PLAN)")] = None,
    list: Annotated[bool, typer.Option("--list", help="Only show the stages, and minutes left as measured")] = False,
    minutes: Annotated[float | None, typer.Option(help="Stop cleanly after so many minutes")] = None,
    device: Device = "auto",
):
    """Carry out a plan: train, certify, table. What is complete is skipped, the rest resumed."""
    from rslab.experiments import plans
    from rslab.report import tables

    if list and minutes is not None:
        raise InputError(f"minutes: got {minutes:g} with --list, expected it without: nothing is carried out.")
    shipped = plans.PLANS / f"{plan}.txt"
    path = shipped if shipped.is_file() and not Path(plan).is_file() else Path(plan)
    runs = plans.read_plan(path)
    out = check_new_folder("out", out or Path("runs") / path.stem)
    device = choose_device(device)
    if not list:
        complete = plans.carry_out(runs, out, device=device, minutes=minutes, progress=bar)
        if complete:
            certified = [out / run.name for run in runs if run.train.method in NOISY]
            if certified:
                print(tables.format_table(tables.accuracy_table(tables.find_logs(certified).logs)))
            return
        print("Stopped by --minutes; the same command goes on.", file=sys.stderr)
    for stage in plans.stages(runs, out):
        state = "complete" if stage.complete else f"{stage.done}/{stage.total}"
        left = (stage.total - stage.done) * (stage.seconds_each or 0) / 60
        estimate = "" if stage.complete else f"{left:6.1f} min left" if stage.seconds_each else "   not measured yet"
        print(f"{stage.run.name:28} {stage.kind:8} {state:>12} {estimate}")


def bench(
    what: Annotated[
        str | None,
        typer.Argument(
            metavar="[WHAT]", help="certify, compile, sampler, attack, train, sequential or cost (default: all)"
        ),
    ] = None,
    arch: Annotated[str | None, typer.Option(help="cnn, resnet20, resnet110 or resnet50")] = None,
    seconds: Annotated[float, typer.Option(help="Time for each implementation")] = 10.0,
    precision: Annotated[str, typer.Option(help="Of ours: auto, float32 or bfloat16")] = "auto",
    json: Annotated[bool, typer.Option("--json", help="Machine-readable, a line a result")] = False,
    device: Device = "auto",
):
    """Time this implementation against the plain reference algorithm, in one process, as ratios."""
    from json import dumps

    from rslab.experiments.benchmarks import format_result, programme

    for result in programme(what, arch, seconds, choose_device(device), precision):
        print(dumps(result) if json else format_result(result) + "\n", flush=True)


def data(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME…]", help="Data sets (default: all)")] = None,
    download: Annotated[bool, typer.Option(help="Fetch what is absent")] = False,
):
    """Show where the data sets are and whether they are whole; --download fetches what is absent."""
    from rslab.data.datasets import DATASETS, PLACES, data_root, load_dataset
    from rslab.errors import check_choice

    for name in names or DATASETS:
        check_choice("dataset", name, DATASETS)
    print(f"RSLAB_DATA: {data_root()}")
    absent = 0
    for name in names or DATASETS:
        try:
            train, test = (load_dataset(name, split, download=download) for split in ("train", "test"))
        except WorkError as error:
            absent += 1
            print(f"{name:8} {error}\n{'':8} Expected in {data_root()}/{PLACES[name]}")
            continue
        size = "×".join(map(str, train.shape))
        print(f"{name:8} {len(train)} training and {len(test)} test images of {size}, {train.num_classes} classes")
    sys.exit(1 if absent and names else 0)
