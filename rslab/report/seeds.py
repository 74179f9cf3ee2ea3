"""Runs that differ in their seed: which they are, their mean and deviation."""

import json
import re
from pathlib import Path, PureWindowsPath

import pandas as pd

from rslab.config import TrainConfig
from rslab.errors import InputError
from rslab.report.tables import Logs, comparable, settings_of, some_of
from rslab.store.files import read_json

# A number behind one of these words is no seed.
_OPTIONS = set(
    "sigma noise eps epsilon alpha n n0 m t k num steps samples epochs epoch lr weight lambda lbd beta".split()
)


_SEED = re.compile(r"(?:(.*)[-_]|(.*seed)|)(\d+)(\.[a-z]\w*)?", re.IGNORECASE)


def spread_table(table: pd.DataFrame, groups: dict[str, list[str]] | None = None) -> pd.DataFrame:
    """Mean and sample standard deviation over the runs of each group, as from `seed_groups`.

    `table` as from `accuracy_table`; the cells become text, "71.3 ± 0.8". A run with no fellow
    stands as it is. Without `groups` the names alone say which runs differ in their seed.
    """
    rows: dict[str, dict[str, str]] = {}
    for name, members in (_by_seed({name: "" for name in table.index}) if groups is None else groups).items():
        group = table.loc[members]
        rows[name] = {"runs": str(len(group))}
        for column in table.columns.drop("images"):
            digits = 3 if column == "ACR" else 1
            spread = f" ± {group[column].std():.{digits}f}" if len(group) > 1 else ""
            rows[name][column] = f"{group[column].mean():.{digits}f}{spread}"
    return pd.DataFrame.from_dict(rows, orient="index")


def seed_groups(found: Logs) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """The runs that differ in their seed only, by their common name, and the logs left out, by reason.

    Their names differ in one number (gaussian-0, cohen_4067, a folder 21), and nothing that is known of them
    differs: neither training options nor certification settings, nor their images (of a group those that most
    share are kept). `gaussian-1` and `gaussian-2` stay apart where the numbers are σ, as far as a run says its σ.
    """
    known = {name: _recipe(file) for name, file in found.files.items() if name in found.logs}
    groups: dict[str, list[str]] = {}
    left_out: dict[str, list[str]] = {}
    for name, members in _by_seed(known).items():
        same, others = comparable({member: found.logs[member] for member in members})
        groups[name] = list(same)
        for reason, names in others.items():
            left_out.setdefault(reason, []).extend(names)
    return groups, left_out


def _by_seed(known: dict[str, str]) -> dict[str, list[str]]:
    """Names that differ in one number, and of which the same is known, by what they have in common."""
    group_of: dict[str, tuple[str, str]] = {}
    for last in range(1, 10):  # the last number first, then the one before …
        fellows: dict[tuple[str, str], list[str]] = {}
        for name in known:
            if name not in group_of and len(bases := _bases(name)) >= last:
                fellows.setdefault((bases[-last], known[name]), []).append(name)
        group_of |= {name: key for key, names in fellows.items() if len(names) > 1 for name in names}
    groups: dict[tuple[str, str], list[str]] = {}
    for name in known:
        groups.setdefault(group_of.get(name, (name, name)), []).append(name)
    bases = [base for base, _ in groups]
    return {
        base if bases.count(base) == 1 else f"{base} ({some_of(names)})": names for (base, _), names in groups.items()
    }


def _bases(name: str) -> list[str]:
    """The name without its first number that may be a seed, without its second …"""
    parts, found = name.split("/"), []
    for place, part in enumerate(parts):
        match = _SEED.fullmatch(part)
        if match is None:
            continue
        before = match[1] or match[2] or ""
        if re.split(r"[-_]", before)[-1].lower() not in _OPTIONS:
            left = [before + (match[4] or "")] if before else []
            found.append("/".join([*parts[:place], *left, *parts[place + 1 :]]) or "all")
    return found


def _recipe(file: Path) -> str:
    """What is known of how the run of a log was trained and certified, but for its seed."""
    try:
        train = read_json(file.parent / "config.json").get("train")
    except InputError:
        train = None
    train = TrainConfig().to_dict() | train if isinstance(train, dict) else {}  # older runs lack newer options
    train.pop("seed", None)
    for key in ("pretrained", "pseudo_labels"):  # runs with seeds of their own, maybe made on Windows
        if isinstance(train.get(key), str):
            train[key] = re.sub(r"\d+$", "", PureWindowsPath(train[key]).name)
    unlike = ("seed", "weights", "device", "max", "skip", "batch", "batch_size", "compile", "slack", "between")
    certify = {key: value for key, value in settings_of(file).items() if key not in unlike}
    return json.dumps([train, certify], sort_keys=True)
