"""`rslab table`."""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from rslab.cli.shared import say
from rslab.errors import InputError, check_choice
from rslab.report import attack_tables, formats, tables
from rslab.report.seeds import seed_groups, spread_table
from rslab.smoothing.bounds import RADII, parse_radii

Paths = Annotated[list[Path], Parameter(name="PATH", help="Logs, runs or folders, ours or published", negative=())]
RadiiText = Annotated[str, Parameter(help="Radii, separated by commas")]
TABLE_RADII = ",".join(f"{radius:g}" for radius in RADII)


def table(
    paths: Paths,
    /,
    *,
    radii: RadiiText = TABLE_RADII,
    envelope: Annotated[bool, Parameter(help="Last row: at each radius the best model")] = False,
    seeds: Annotated[bool, Parameter(help="Mean ± deviation of runs that differ in their seed")] = False,
    paired: Annotated[bool, Parameter(help="Of two logs: first minus second in points, 95 % interval")] = False,
    attacks: Annotated[bool, Parameter(help="Read attack logs: accuracy of g by attack and ε")] = False,
    recipe: Annotated[bool, Parameter(help="Say how each run was trained, and how long")] = False,
    format: Annotated[str, Parameter(help="text, markdown, csv or latex")] = "text",
):
    """Certified accuracy in % at each radius, and the average certified radius (ACR), one row a model."""
    grid = parse_radii(radii)
    check_choice("format", format, formats.FORMATS)
    _check_alone("attacks", attacks, seeds=seeds, envelope=envelope, paired=paired, radii=radii != TABLE_RADII)
    _check_alone("recipe", recipe, seeds=seeds, attacks=attacks, paired=paired)
    _check_alone("paired", paired, seeds=seeds, envelope=envelope)
    if attacks:
        return _print_attacks(paths, format)
    found = tables.find_logs(paths)
    if paired:
        return _print_difference(found, grid, format)
    logs, left_out = found.logs, found.left_out
    if envelope:
        logs, others = tables.comparable(logs, tables.MOSTLY)
        left_out = left_out | others
    groups: dict = {}
    if seeds:
        groups, others = seed_groups(tables.Logs(logs, {}, found.files))
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
        made = tables.recipes({name: file.parent for name, file in found.files.items() if name in result.index})
        result = made.join(result, how="right").fillna(dict.fromkeys(made.columns, ""))
    if seeds:
        result = spread_table(result, groups)
        say(*(f"{name}: mean of {', '.join(runs)}" for name, runs in groups.items() if len(runs) > 1))
    print(formats.format_table(result, format))
    for note in filter(None, notes):
        print(note, file=sys.stderr if format in ("csv", "latex") else sys.stdout)
    say(tables.made_differently(tables.Logs(logs, {}, found.files)))


def _check_alone(option: str, asked: bool, **others: bool) -> None:
    """`InputError` for an option that is asked for beside another with which it has no meaning."""
    if asked and any(others.values()):
        other = next(name for name, given in others.items() if given)
        raise InputError(f"{option}: got --{option} with --{other}, expected one of the two.")


def _print_attacks(paths: list[Path], format: str) -> None:
    found, rows = attack_tables.find_attacks(paths)
    print(formats.format_table(attack_tables.attack_cells(rows), format, corner="attack \\ ε"))
    say(tables.left_out_sentence(found.left_out))
    say(tables.on_other_images(found.logs), tables.made_differently(found))


def _print_difference(found: tables.Logs, grid: tuple[float, ...], format: str) -> None:
    left_out = tables.left_out_sentence(found.left_out)
    if (count := len(found.logs)) != 2:
        got = f"{count} log{'s' * (count != 1)}"
        raise InputError(f"paired: got {got}, expected two, on the same images. {left_out}".rstrip())
    (first, ours), (second, theirs) = found.logs.items()
    rows = tables.paired_difference(ours, theirs, grid).T
    print(formats.format_table(rows, format, corner=f"{first} − {second}"))
    say(left_out, tables.made_differently(found))
