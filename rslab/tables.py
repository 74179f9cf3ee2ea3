"""From logs to tables: certified accuracy, average certified radius, envelopes.

A log's row counts at radius r when it is correct and its radius is at least r.
Accuracies are in %, radii are ℓ2 in [0, 1] pixel units.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from rslab import records
from rslab.errors import InputError, check_choice

RADII = tuple(np.arange(10) / 4)  # 0, 0.25 … 2.25
FORMATS = ("text", "markdown", "csv", "latex")


def certified_accuracy(log: pd.DataFrame, radii) -> np.ndarray:
    """Share of images, in %, that are classified correctly and certified at each radius: (R,)."""
    certified = np.sort(log.radius[log.correct == 1])
    return 100 * (len(certified) - np.searchsorted(certified, np.asarray(radii, float), side="left")) / len(log)


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

    A file that is named and is no log is an `InputError`. In a folder other files are
    passed over, and empty or broken logs are left out with the reason.
    """
    logs: dict[str, pd.DataFrame] = {}
    files_read: dict[str, Path] = {}
    left_out: dict[str, list[str]] = {}
    for path in map(Path, paths):
        if not path.exists():
            raise InputError(f"PATH: got {path}, which does not exist, expected a log, a run or a folder of logs.")
        files = [path] if path.is_file() else sorted(f for f in path.rglob("*") if f.is_file() and records.is_log(f))
        if not files:
            raise InputError(f"PATH: got {path}, which holds no certification log, expected one at least.")
        for file in files:
            name = _model_name(file, path, len(paths) > 1)
            try:
                log = records.read_log(file)
                if "radius" not in log:
                    raise InputError(f"{file}: got a log of attacks, expected one of certification.")
            except InputError as error:
                if file == path:
                    raise
                left_out.setdefault("broken", []).append(f"{name} ({str(error).removeprefix(f'{file}: ').rstrip('.')})")
                continue
            if len(log):
                name = name if name not in logs else str(file)
                logs[name], files_read[name] = log, file
            else:
                left_out.setdefault("empty (no row after the header)", []).append(name)
    if not logs:
        reasons = "; ".join(f"{reason}: {', '.join(names[:3])}" for reason, names in left_out.items())
        raise InputError(f"PATH: got no log with a row ({reasons}), expected one at least.")
    return Logs(logs, left_out, files_read)


def _model_name(file: Path, root: Path, several: bool) -> str:
    """The part of the path that tells models apart: published logs end in …/noise_σ/test/sigma_σ."""
    inside = file.relative_to(root) if file != root else Path(file.name)
    parts = ([root.name] if several and file != root else []) + list(inside.parts)
    if parts[-1].startswith("sigma_") and parts[-2:-1] == ["test"]:
        parts = parts[:-2] if parts[-3:-2] == [f"noise_{parts[-1][6:]}"] else [*parts[:-2], parts[-1]]
    if parts[-1] == "certify.tsv":
        parts = parts[:-1] or [file.resolve().parent.name]
    elif file == root:
        parts = [part for part in file.parts if part != file.anchor][-3:]
    return "/".join(parts)


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
    rows = {}
    for radius in radii:
        ours, theirs = (((log.correct == 1) & (log.radius >= radius)).astype(int) for log in (first, second))
        mean, half = 100 * (ours - theirs).mean(), 196 * (ours - theirs).std() / len(ours) ** 0.5
        rows[radius] = {"difference": mean, "low": mean - half, "high": mean + half}
    return pd.DataFrame.from_dict(rows, orient="index")


def spread_table(table: pd.DataFrame) -> pd.DataFrame:
    """Mean and sample standard deviation over the runs whose names differ only in a last -SEED.

    `table` as from `accuracy_table`; the cells become text, "71.3 ± 0.8". A run without
    a seed in its name, or with no fellow, stands as it is.
    """
    rows: dict[str, dict[str, str]] = {}
    for name, group in table.groupby(table.index.str.replace(r"-\d+$", "", regex=True), sort=False):
        rows[name] = {"runs": str(len(group))}
        for column in table.columns.drop("images"):
            digits = 3 if column == "ACR" else 1
            spread = f" ± {group[column].std():.{digits}f}" if len(group) > 1 else ""
            rows[name][column] = f"{group[column].mean():.{digits}f}{spread}"
    return pd.DataFrame.from_dict(rows, orient="index")


def comparable(logs: dict[str, pd.DataFrame]) -> tuple[dict[str, pd.DataFrame], dict[str, list[str]]]:
    """The logs on the set of images that most of them share (the larger set at a tie), and the others.

    An envelope over different images would compare nothing: short logs are left out.
    """
    by_images: dict[bytes, list[str]] = {}
    for name, log in logs.items():
        by_images.setdefault(np.sort(log.idx.to_numpy()).tobytes(), []).append(name)
    most = max(by_images.values(), key=lambda names: (len(names), len(logs[names[0]])))
    images = len(logs[most[0]])
    others: dict[str, list[str]] = {}
    for names in by_images.values():
        if names is not most:
            size = len(logs[names[0]])
            kind = "short" if size < images else "on other images"
            others.setdefault(f"{kind} ({size} images, not the {images} of most)", []).extend(names)
    return {name: logs[name] for name in logs if name in most}, others


def attack_table(paths: list[Path]) -> tuple[pd.DataFrame, dict[str, list[str]]]:
    """Accuracy of g under attack in %: one row an attack, one column an ε; and the logs left out.

    The attack and ε come from the settings beside our logs, or from the published folders
    PGD_ε/num_m/predictions and PGD_ε/base/predictions. Logs that the short name of a row does not
    tell apart get what differs in their settings, or else their file, into the name.
    """
    rows: dict[tuple[str, int, str], list[tuple[Path, float, dict, float]]] = {}
    left_out: dict[str, list[str]] = {}
    for path in map(Path, paths):
        if not path.exists():
            raise InputError(f"PATH: got {path}, which does not exist, expected an attack log or a folder of them.")
        files = [path] if path.is_file() else sorted(f for f in path.rglob("*") if records.is_log(f, attack=True))
        for file in files:
            log = records.read_log(file)
            if "basePredict" not in log:
                raise InputError(f"{file}: got a log of certification, expected one of attacks (`rslab attack`).")
            described = _describe_attack(file)
            if described is None or log.empty:
                reason = "empty" if log.empty else "no settings beside it and no PGD_ε/num_m in its path"
                left_out.setdefault(reason, []).append(str(file))
                continue
            group, samples, label, epsilon, settings = described
            accuracy = 100 * float(log.correct.mean())
            rows.setdefault((group, samples, label), []).append((file, epsilon, settings, accuracy))
    if not rows:
        raise InputError(f"PATH: got {paths[0]}, which holds no usable attack log, expected one at least.")
    cells: dict[str, dict[float, float]] = {}
    for (group, _, label), logs in sorted(rows.items()):
        for name, (_, epsilon, _, accuracy) in zip(_told_apart(f"{group}{label}", logs), logs, strict=True):
            cells.setdefault(name, {})[epsilon] = accuracy
    table = pd.DataFrame.from_dict(cells, orient="index")
    return table[sorted(table.columns)], left_out


def _told_apart(name: str, logs: list[tuple[Path, float, dict, float]]) -> list[str]:
    """A name for each log of one row: the same for all, unless two are at one ε."""
    keys = set()  # in which two at one ε differ
    for _, epsilon, one, _ in logs:
        for _, same, other, _ in logs:
            keys |= {key for key in one if same == epsilon and one[key] != other.get(key)}
    names = [", ".join([name, *(f"{key} {log[2].get(key)}" for key in sorted(keys))]) for log in logs]
    cells = [(name, log[1]) for name, log in zip(names, logs, strict=True)]
    return [f"{n} ({log[0]})" if cells.count((n, log[1])) > 1 else n for n, log in zip(names, logs, strict=True)]


_PUBLISHED_ATTACK = re.compile(r"(\w+)/PGD_(\d+\.\d+)/(base|num_(\d+))/predictions")


def _describe_attack(file: Path) -> tuple[str, int, str, float, dict] | None:
    """(group, order, label, ε, all settings) of an attack log, or None where nothing tells."""
    if match := _PUBLISHED_ATTACK.search(file.as_posix()):
        group, epsilon, kind, samples = match.groups()
        return f"{group} ", int(samples or 0), f"m = {samples}" if samples else kind, float(epsilon), {}
    beside = records.settings_path(file)
    if not beside.is_file():
        return None
    settings = records.read_json(beside)
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
    """ "Left out: 2 logs, empty (…): a, b; 20 logs, short (…): c, d, e, f and 16 more."; "" if none was."""
    parts = []
    for reason, names in left_out.items():
        more = f" and {len(names) - shown} more" if len(names) > shown else ""
        parts.append(f"{len(names)} log{'s' * (len(names) > 1)}, {reason}: {', '.join(names[:shown])}{more}")
    return f"Left out: {'; '.join(parts)}." if parts else ""


def parse_radii(text: str) -> tuple[float, ...]:
    """ "0,0.25,0.5" → numbers, each finite and ≥ 0, in increasing order."""
    try:
        radii = tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise InputError(f"radii: got {text!r}, expected numbers separated by commas, such as 0,0.25,0.5.") from error
    if not all(0 <= radius < float("inf") for radius in radii) or list(radii) != sorted(set(radii)):
        raise InputError(f"radii: got {text!r}, expected increasing radii of 0 or more.")
    return radii


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


def _escape_latex(text: str) -> str:
    return re.sub(r"([_%#&$])", r"\\\1", text)
