"""From logs to tables: certified accuracy, average certified radius, envelopes.

A log's row counts at radius r when it is correct and its radius is at least r.
Accuracies are in %, radii are ℓ2 in [0, 1] pixel units.
"""

import json
import os
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from rslab.config import TrainConfig
from rslab.errors import InputError, check_choice
from rslab.networks.models import build_model, count_parameters
from rslab.smoothing.bounds import RADII, lower_confidence_bound, upper_confidence_bound
from rslab.store import run_folder
from rslab.store.files import read_json
from rslab.store.logs import is_log, looks_like_log, read_log, settings_path
from rslab.store.run_folder import read_history

FORMATS = ("text", "markdown", "csv", "latex")


def certified_accuracy(log: pd.DataFrame, radii) -> np.ndarray:
    """Share of images, in %, that are classified correctly and certified at each radius: (R,).

    A radius that somebody computed may be a decimal but for rounding (`0.1 * 3`): within 1e-12 of one it is
    read as that decimal, and so at most 1e-12 too small. The radii of the log are compared exactly.
    """
    certified = np.sort(log.radius[log.correct == 1])
    return 100 * (len(certified) - np.searchsorted(certified, _decimal(radii), side="left")) / len(log)


def _decimal(radii) -> np.ndarray:
    """Radii as the decimals of nine digits that they miss by at most 1e-12; others as they are."""
    radii = np.asarray(radii, float)
    if not np.all((radii >= 0) & np.isfinite(radii)):
        raise InputError(f"radii: got {radii.tolist()}, expected finite numbers, 0 or more.")
    near = np.round(radii, 9)
    return np.where(abs(near - radii) <= 1e-12, near, radii)


def average_certified_radius(log: pd.DataFrame) -> float:
    """ACR (Zhai et al. 2020): the mean over all images of radius · correct.

    It rewards very large radii on few images and grows with n: read it beside the
    curve, and never compare it across n.
    """
    return float((log.radius * log.correct).mean())


def upper_envelope(accuracies: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """At each radius (column) the best accuracy over models (rows), and the model that has it.

    The published rows are such envelopes: at each radius the best of many models, not one model.
    """
    return accuracies.max(), accuracies.idxmax()


def interval(count, n: int, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Clopper and Pearson's two-sided interval for a share, from `count` of n images: (low, high), in %; NaN of NaN."""
    count, tail = np.asarray(count, float), (1 - level) / 2
    known = np.nan_to_num(count)
    bounds = (lower_confidence_bound(known, n, tail), upper_confidence_bound(known, n, tail))
    low, high = (100 * np.where(np.isnan(count), np.nan, bound) for bound in bounds)
    return low, high


def curve_grid(logs: dict[str, pd.DataFrame], points: int = 200) -> np.ndarray:
    """Radii from 0 to just beyond the largest one in the logs, to draw curves on: (points,)."""
    largest = max(float(log.radius.max()) for log in logs.values())
    return np.linspace(0, 1.02 * largest or 1.0, points)


@dataclass(frozen=True)
class Logs:
    """Certification logs by the name of their model, and why others were left out."""

    logs: dict[str, pd.DataFrame]
    left_out: dict[str, list[str]]  # reason → names
    files: dict[str, Path]  # where each log was read


def find_logs(paths: list[Path]) -> Logs:
    """Read each path: a log, a run, or a folder of logs, ours or published.

    A file that is named and is no log is an `InputError`. In a folder what does not look like a log is
    passed over; what does, and is empty or cannot be read, is left out with the reason.
    """
    found = list(_find(paths, "certification log"))
    logs: dict[str, pd.DataFrame] = {}
    files: dict[str, Path] = {}
    left_out: dict[str, list[str]] = {}
    for (path, file), name in zip(found, _model_names(found), strict=True):
        if file != path and is_log(file, attack=True) and not is_log(file):
            left_out.setdefault("of attacks (`--attacks` reads them)", []).append(name)
            continue
        log = _read(file, name, left_out, named=file == path)
        if log is None:
            continue
        if "radius" not in log:
            raise InputError(f"{file}: got a log of attacks, expected one of certification.")
        if len(log):
            logs[name], files[name] = log, file
        else:
            left_out.setdefault("empty (no row after the header)", []).append(name)
    if not logs:
        reasons = "; ".join(f"{reason}: {', '.join(names[:3])}" for reason, names in left_out.items())
        raise InputError(f"PATH: got no log with a row ({reasons}), expected one at least.")
    return Logs(logs, left_out, files)


BROKEN = "broken"  # the reason of those that each have one of their own


def _find(paths: list[Path], kind: str) -> Iterator[tuple[Path, Path]]:
    """(path, file) of each file that is named, or lies in a folder and looks like a log; every file once."""
    seen = set()
    for path in map(Path, paths):
        if not path.exists():
            raise InputError(f"PATH: got {path}, which does not exist, expected a log, a run or a folder of logs.")
        files = [path] if path.is_file() else sorted(filter(looks_like_log, path.rglob("*")))
        if not files:
            raise InputError(f"PATH: got {path}, which holds no {kind}, expected one at least.")
        for file in files:
            if os.path.abspath(file) not in seen:
                seen.add(os.path.abspath(file))
                yield path, file


def _read(file: Path, name: str, left_out: dict[str, list[str]], named: bool) -> pd.DataFrame | None:
    """A log, or None and the reason among those left out; raises the `InputError` of a file that was named."""
    try:
        return read_log(file)
    except InputError as error:
        if named:
            raise
        reason = str(error).removeprefix(f"{file}: got ").split(", expected")[0].rstrip(".")
        if re.fullmatch(r"\..*\.part-\d+", file.name):
            reason = "a part of a log that is not complete"
        left_out.setdefault(BROKEN, []).append(f"{name} ({reason})")
        return None


def _model_names(found: list[tuple[Path, Path]]) -> list[str]:
    """For each (path, file) the end of the file's path that tells it apart; longer for all where two are the same."""
    several = len({path for path, _ in found}) > 1
    ends = [_end(file, path, several) for path, file in found]
    for more in range(max(len(parts) for parts, _ in ends)):
        names = ["/".join(parts[-(least + more) :]) for parts, least in ends]
        if len(set(names)) == len(names):
            return names
    return [str(file) for _, file in found]


def _end(file: Path, root: Path, several: bool) -> tuple[list[str], int]:
    """The path of a log, and how many of its last parts are its name: published logs end in …/noise_σ/test/sigma_σ."""
    parts = list(Path(os.path.abspath(file)).parts[1:])
    least = min(3, len(file.parts)) if file == root else len(file.relative_to(root).parts) + several
    if parts[-1] == "certify.tsv":
        least = 1 if file == root else max(least - 1, 1)
        parts.pop()
    elif file != root and least >= 2 and parts[-2] == "test" and parts[-1].startswith("sigma_"):
        same = least >= 3 and parts[-3] == f"noise_{parts[-1][6:]}"
        parts[-2:] = [] if same else parts[-1:]
        least -= 1 + same
    return parts or [file.name], max(least, 1)


def accuracy_table(logs: dict[str, pd.DataFrame], radii=RADII) -> pd.DataFrame:
    """One row a model: number of images, certified accuracy in % at each radius, ACR."""
    rows = {}
    for name, log in logs.items():
        accuracies = dict(zip(radii, certified_accuracy(log, radii), strict=True))
        rows[name] = {"images": len(log), **accuracies, "ACR": average_certified_radius(log)}
    # Int64 can hold "no value": an envelope has no number of images of its own.
    return pd.DataFrame.from_dict(rows, orient="index").astype({"images": "Int64"})


def paired_difference(first: pd.DataFrame, second: pd.DataFrame, radii=RADII) -> pd.DataFrame:
    """Certified accuracy of `first` minus that of `second`, in points, with a 95 % interval: a row a radius.

    Both logs hold the same images, so most of the chance of the choice of images cancels: the interval is the
    normal one for the mean of the differences image by image (−1, 0 or 1).
    """
    if sorted(first.idx) != sorted(second.idx):
        raise InputError(f"logs: got {len(first)} and {len(second)} images that differ, expected the same images.")
    first, second = first.set_index("idx"), second.set_index("idx").loc[first.idx]
    if "label" in first and "label" in second and (other := int((first.label != second.label).sum())):
        raise InputError(f"logs: got other labels for {other} of {len(first)} idx, expected the same images.")
    rows = {}
    for radius, least in zip(radii, _decimal(radii), strict=True):
        ours, theirs = (((log.correct == 1) & (log.radius >= least)).astype(int) for log in (first, second))
        mean, half = 100 * (ours - theirs).mean(), 196 * (ours - theirs).std() / len(ours) ** 0.5
        rows[radius] = {"difference": mean, "low": mean - half, "high": mean + half}
    return pd.DataFrame.from_dict(rows, orient="index")


def _images(log: pd.DataFrame) -> frozenset[tuple[int, ...]]:
    """The images of a log. Data sets share numbers: an image is its idx and its label."""
    return frozenset(log[[name for name in ("idx", "label") if name in log]].itertuples(index=False, name=None))


MOSTLY = 0.8  # of the images of most: an envelope takes a log that lacks so few, as Cohen et al. did with 427 of 500


def comparable(
    logs: dict[str, pd.DataFrame], share: float = 1.0
) -> tuple[dict[str, pd.DataFrame], dict[str, list[str]]]:
    """The logs on the set of images that most of them share (the larger set at a tie), and the others by reason.

    The same images have the same idx and the same label. An envelope over different images would compare
    nothing: logs that lack some are left out, or where they hold a `share` of them, taken.
    """
    by_images: dict[frozenset, list[str]] = {}
    for name, log in logs.items():
        by_images.setdefault(_images(log), []).append(name)
    most = max(by_images, key=lambda images: (len(by_images[images]), len(images)))
    others: dict[str, list[str]] = {}
    kept: set[str] = set()
    for images, names in by_images.items():
        if images == most or (images < most and len(images) >= share * len(most)):
            kept.update(names)
        else:
            others.setdefault(_how_other(images, most), []).extend(names)
    return {name: logs[name] for name in logs if name in kept}, others


def _how_other(images: frozenset, most: frozenset) -> str:
    size = f"{len(images)} image{'s' * (len(images) != 1)}, not the {len(most)} of most"
    if images < most:
        return f"short ({size})"
    if {image[0] for image in images} == {image[0] for image in most}:
        size = f"{len(images)} with the idx of most, but other labels"
    return f"on other images ({size})"


def on_other_images(logs: dict[str, pd.DataFrame]) -> str:
    """A sentence that names the logs whose images are not those of most; "" where all have the same."""
    others = left_out_sentence(comparable(logs)[1]).removeprefix("Left out: ")
    return f"Compare rows only on the same images; not on those of most: {others}" if others else ""


# -- what logs were made with ------------------------------------------------------------------


def _settings(file: Path) -> dict:
    """The settings beside a log; {} where there are none that can be read."""
    try:
        return read_json(settings_path(file))
    except InputError:
        return {}


def _certified_with(log: pd.DataFrame, settings: dict) -> dict[str, str]:
    """n, n0, α and radii of a log as far as it, or the settings beside it, tell."""
    found = {}
    for key, name in (("n", "n"), ("n0", "n0"), ("alpha", "α")):
        if key in settings:
            found[name] = f"{settings[key]}"
        elif key in log and log[key].nunique() == 1:  # a sequential log has another n in each row
            found[name] = f"{log[key].iloc[0]}"
    if "n" in settings:
        radii = settings.get("radii")
        found["radii"] = " ".join(f"{radius:g}" for radius in radii) if isinstance(radii, list) else "any"
    return found


def made_differently(found: Logs) -> str:
    """A sentence on the n, n0, α and radii in which logs differ, as far as is known; "" where they do not."""
    made = {name: _certified_with(log, _settings(found.files[name])) for name, log in found.logs.items()}
    parts = []
    for key in ("n", "n0", "α", "radii"):
        values: dict[str, list[str]] = {}
        for name, known in made.items():
            if key in known:
                values.setdefault(known[key], []).append(name)
        if len(values) > 1:
            parts.append(f"{key} " + ", ".join(f"{value} ({_some(names)})" for value, names in values.items()))
    return f"These logs were made with different {'; '.join(parts)}." if parts else ""


def _some(names: list[str], shown: int = 4) -> str:
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more


# -- seeds -------------------------------------------------------------------------------------

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
        base if bases.count(base) == 1 else f"{base} ({_some(names)})": names for (base, _), names in groups.items()
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
    for key in ("pretrained", "pseudo_labels"):  # runs with seeds of their own
        if isinstance(train.get(key), str):
            train[key] = re.sub(r"\d+$", "", Path(train[key]).name)
    unlike = ("seed", "weights", "device", "max", "skip", "batch", "batch_size", "compile", "slack", "between")
    certify = {key: value for key, value in _settings(file).items() if key not in unlike}
    return json.dumps([train, certify], sort_keys=True)


# -- attacks -----------------------------------------------------------------------------------


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
    for path, file in _find(paths, "attack log"):
        if file != path and is_log(file) and not is_log(file, attack=True):
            left_out.setdefault("of certification (read without `--attacks`)", []).append(str(file))
            continue
        log = _read(file, str(file), left_out, named=file == path)
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


def left_out_sentence(left_out: dict[str, list[str]], shown: int = 4) -> str:
    """ "Left out: 2 logs, empty (…): a, b; 20 logs, short (…): c, d, e, f and 16 more."; "" if none was.

    Broken logs are all named, each with a reason of its own: "Left out: a (no header line)."
    """
    parts = []
    for reason, names in left_out.items():
        if reason == BROKEN:
            parts.append(", ".join(names))
        else:
            parts.append(f"{len(names)} log{'s' * (len(names) > 1)}, {reason}: {_some(names, shown)}")
    return f"Left out: {'; '.join(parts)}." if parts else ""


def format_table(table: pd.DataFrame, fmt: str = "text", corner: str = "model") -> str:
    """A table of `accuracy_table` as aligned text, Markdown, CSV (full precision) or LaTeX."""
    check_choice("format", fmt, FORMATS)
    if fmt == "csv":
        return table.to_csv(index_label=corner, lineterminator="\n").rstrip("\n")
    header = [corner, *(f"{column:g}" if isinstance(column, float) else column for column in table.columns)]
    # One image in 500 is 0.2 %, one in 10,000 is 0.01 %: no cell is rounded up over a neighbour's.
    digits = 2 if "images" in table and table["images"].max() > 1000 else 1
    cells = [
        [str(name), *(_cell(column, value, digits) for column, value in zip(table.columns, row, strict=True))]
        for name, row in zip(table.index, table.values, strict=True)
    ]
    if fmt == "latex":
        lines = [" & ".join(map(_escape_latex, row)) + r" \\" for row in [header, *cells]]
        begin = [r"\begin{tabular}{l" + "r" * (len(header) - 1) + "}", r"\toprule"]
        return "\n".join([*begin, lines[0], r"\midrule", *lines[1:], r"\bottomrule", r"\end{tabular}"])
    if fmt == "markdown":
        header, *cells = [[cell.replace("|", r"\|") for cell in row] for row in [header, *cells]]
    widths = [max(len(row[i]) for row in [header, *cells]) for i in range(len(header))]
    aligned = [[row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])] for row in [header, *cells]]
    if fmt == "text":
        return "\n".join("  ".join(row).rstrip() for row in aligned)
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join(f"| {' | '.join(row)} |" for row in [aligned[0], rule, *aligned[1:]])


def _cell(column, value, digits: int) -> str:
    if isinstance(value, str):
        return value
    if pd.isna(value):
        return ""
    if column == "images":
        return str(int(value))
    return f"{value:.3f}" if column == "ACR" else f"{value:.{digits}f}"


_LATEX = {
    **{mark: "\\" + mark for mark in "_%#&${}"},
    **{"\\": r"\textbackslash{}", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}"},
    **{"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}"},
    **{"±": r"$\pm$", "×": r"$\times$", "−": "$-$", "∞": r"$\infty$", "ℓ": r"$\ell$", "≤": r"$\leq$", "≥": r"$\geq$"},
    **{"→": r"$\to$", "√": r"$\surd$", "·": r"$\cdot$", "≈": r"$\approx$", "≠": r"$\neq$", "…": r"\dots{}"},
    **{"ε": r"$\varepsilon$", "ο": "o", "ς": r"$\varsigma$"},
}


_GREEK = re.compile("GREEK (SMALL|CAPITAL) LETTER (LAMDA|[A-Z]+)")


_CAPITALS = ("GAMMA", "DELTA", "THETA", "LAMDA", "XI", "PI", "SIGMA", "UPSILON", "PHI", "PSI", "OMEGA")


def _typeset(mark: str) -> str:
    """What LaTeX typesets as this mark: Greek letters by name, raised and lowered digits, all others as they are."""
    if mark in _LATEX:
        return _LATEX[mark]
    if letter := _GREEK.fullmatch(unicodedata.name(mark, "")):
        name = letter[2].replace("LAMDA", "LAMBDA")
        if letter[1] == "SMALL":
            return rf"$\{name.lower()}$"
        if letter[2] in _CAPITALS:
            return rf"$\{name.capitalize()}$"
        return {"ETA": "H", "RHO": "P", "CHI": "X"}.get(name, name[0])  # the others look like our letters
    kind, *_ = unicodedata.decomposition(mark).split() or [""]
    if kind in ("<super>", "<sub>"):
        return f"${'^' if kind == '<super>' else '_'}{{{unicodedata.normalize('NFKC', mark).replace('−', '-')}}}$"
    return mark


def _escape_latex(text: str) -> str:
    escaped = "".join(map(_typeset, text))
    return "{}" + escaped if escaped.startswith(("[", "*")) else escaped  # else an option of the line break above


def recipes(folders: dict[str, Path]) -> pd.DataFrame:
    """How the model of each run folder was made: network, weights, epochs, minutes and device; "" where unknown."""
    rows = {}
    for name, folder in folders.items():
        rows[name] = dict.fromkeys(("network", "weights", "epochs", "minutes", "device"), "")
        if not (folder / "config.json").is_file():
            continue
        config, classes = run_folder.read_run(folder)
        history = read_history(folder)
        rows[name] |= {"network": config.arch, "epochs": f"{len(history)}"}
        if ":" not in config.arch:  # else it is code
            model = build_model(config.arch, config.dataset, classes, normalization=config.normalization)
            rows[name]["weights"] = f"{count_parameters(model):,}"
        rows[name]["minutes"] = f"{sum(record['seconds'] for record in history) / 60:.1f}"
        rows[name]["device"] = ", ".join(sorted({record["device"] for record in history if "device" in record}))
    return pd.DataFrame.from_dict(rows, orient="index")
