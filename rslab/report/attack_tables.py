"""Logs of attacks as a table: accuracy of g by attack and ε."""

import re
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from rslab.errors import InputError
from rslab.report.tables import Logs, comparable, find_files, read_logs
from rslab.store.files import read_json
from rslab.store.logs import is_log, settings_path


def attack_table(paths: list[Path]) -> tuple[pd.DataFrame, dict[str, list[str]]]:
    """Accuracy of g under attack in %: one row an attack, one column an ε; and the logs left out.

    The attack and ε come from the settings beside our logs, or from the published folders
    PGD_ε/num_m/predictions and PGD_ε/base/predictions. Logs that the short name of a row does not
    tell apart get what differs in their settings, or else their file, into the name. Of logs that
    would stand in one row those on the images that most of them share are kept.
    """
    found, rows = find_attacks(paths)
    return attack_cells(rows), found.left_out


@dataclass(frozen=True)
class Attack:
    """What is known of an attack log: ε, all settings, accuracy of g in %."""

    file: Path
    epsilon: float
    settings: dict
    accuracy: float


AttackRows = dict[tuple[str, int, str], list[Attack]]  # (group, order, label) of a row → its logs


def find_attacks(paths: list[Path]) -> tuple[Logs, AttackRows]:
    """The usable attack logs by their path, with those left out; and the rows of their table."""
    logs: dict[str, pd.DataFrame] = {}
    rows: AttackRows = {}
    left_out: dict[str, list[str]] = {}
    for path, file in find_files(paths, "attack log"):
        if file != path and is_log(file) and not is_log(file, attack=True):
            left_out.setdefault("of certification (read without `--attacks`)", []).append(str(file))
            continue
        log = read_logs(file, str(file), left_out, named=file == path)
        if log is None:
            continue
        if "basePredict" not in log:
            raise InputError(f"{file}: got a log of certification, expected one of attacks (`rslab attack`).")
        described = _describe_attack(file)
        if described is None or log.empty:
            reason = "empty" if log.empty else "no settings beside it and no PGD_ε/num_m in its path"
            left_out.setdefault(reason, []).append(str(file))
            continue
        group, samples, label, epsilon, settings = described
        logs[str(file)] = log
        attack = Attack(file, epsilon, settings, 100 * float(log.correct.mean()))
        rows.setdefault((group, samples, label), []).append(attack)
    if not rows:
        raise InputError(f"PATH: got {paths[0]}, which holds no usable attack log, expected one at least.")
    for key, attacks in rows.items():
        same, others = comparable({str(attack.file): logs[str(attack.file)] for attack in attacks})
        rows[key] = [attack for attack in attacks if str(attack.file) in same]
        for reason, names in others.items():
            left_out.setdefault(reason, []).extend(names)
            for name in names:
                del logs[name]
    return Logs(logs, left_out, {name: Path(name) for name in logs}), rows


def attack_cells(rows: AttackRows) -> pd.DataFrame:
    """The table of the rows that `find_attacks` gives: accuracies in %, a column an ε."""
    cells: dict[str, dict[float, float]] = {}
    for (group, _, label), attacks in sorted(rows.items()):
        for name, attack in zip(_told_apart(f"{group}{label}", attacks), attacks, strict=True):
            cells.setdefault(name, {})[attack.epsilon] = attack.accuracy
    table = pd.DataFrame.from_dict(cells, orient="index")
    return table[sorted(table.columns)]


def _told_apart(name: str, logs: list[Attack]) -> list[str]:
    """A name for each log of one row: the same for all, unless two are at one ε."""
    keys: set[str] = set()  # in which two at one ε differ
    for one in logs:
        for other in logs:
            if one.epsilon == other.epsilon:
                keys |= {key for key in one.settings if one.settings[key] != other.settings.get(key)}
    names = [", ".join([name, *(f"{key} {log.settings.get(key)}" for key in sorted(keys))]) for log in logs]
    cells = [(name, log.epsilon) for name, log in zip(names, logs, strict=True)]
    return [f"{n} ({log.file})" if cells.count((n, log.epsilon)) > 1 else n for n, log in zip(names, logs, strict=True)]


_PUBLISHED_ATTACK = re.compile(r"(\w+)/PGD_(\d+\.\d+)/(base|num_(\d+))/predictions")


def _describe_attack(file: Path) -> tuple[str, int, str, float, dict] | None:
    """(group, order, label, ε, all settings) of an attack log, or None where nothing tells."""
    if match := _PUBLISHED_ATTACK.search(file.as_posix()):
        group, epsilon, kind, samples = match.groups()
        return f"{group} ", int(samples or 0), f"m = {samples}" if samples else kind, float(epsilon), {}
    beside = settings_path(file)
    if not beside.is_file():
        return None
    settings = read_json(beside)
    try:
        samples, epsilon = int(settings["samples"]), float(settings["epsilon"])
        name = f"{settings['attack']} {settings['norm']}"
        if settings["attack"] == "pgd":
            name += f" T = {settings['steps']}" + f" × {settings['restarts']}" * (settings["restarts"] > 1)
        base = settings["objective"] == "base"
        label = ("" if base else f"m = {samples} ") + settings["objective"]
        label += " by transfer" * ("source_weights" in settings)
        return f"{file.parent.name}: {name} ", 0 if base else samples, label, epsilon, settings
    except (KeyError, TypeError, ValueError):
        raise InputError(f"{beside}: got settings of no attack, expected those that `rslab attack` writes.") from None
