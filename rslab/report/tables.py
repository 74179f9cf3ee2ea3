"""From logs to tables: certified accuracy, average certified radius, envelopes.

A log's row counts at radius r when it is correct and its radius is at least r.
Accuracies are in %, radii are ℓ2 in [0, 1] pixel units.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from rslab.errors import InputError, check_kind
from rslab.networks.models import build_model, count_parameters
from rslab.smoothing.bounds import RADII, lower_confidence_bound, upper_confidence_bound
from rslab.store import run_folder
from rslab.store.files import read_json
from rslab.store.logs import is_log, looks_like_log, read_log, settings_path
from rslab.store.run_folder import read_history


def certified_accuracy(log: pd.DataFrame, radii) -> np.ndarray:
    """Share of images, in %, that are classified correctly and certified at each radius: (R,).

    A radius that somebody computed may be a decimal but for rounding (`0.1 * 3`): within 1e-12 of one it is
    read as that decimal, and so at most 1e-12 too small. The radii of the log are compared exactly.

    Source: blog, provable robust accuracy; slides, certified accuracy.
    """
    _check_log(log)
    certified = np.sort(log.radius[log.correct == 1])
    return 100 * (len(certified) - np.searchsorted(certified, _decimal(radii), side="left")) / len(log)


def _check_log(log: pd.DataFrame) -> None:
    """`InputError` unless it is a table as `read_log` gives it of a certification."""
    columns = check_kind("log", log, pd.DataFrame, "a table, as read_log gives it").columns
    for name in ("radius", "correct"):
        if name not in columns:
            raise InputError(f"log: got the columns {', '.join(map(str, columns))}, expected {name} among them.")
    radius, correct = (pd.to_numeric(log[name], errors="coerce") for name in ("radius", "correct"))
    if not (radius >= 0).all():  # false of NaN, too
        raise InputError(f"log: got the radius {log.radius[~(radius >= 0)].iloc[0]}, expected numbers, 0 or more.")
    if not correct.isin((0, 1)).all():
        raise InputError(f"log: got correct = {log.correct[~correct.isin((0, 1))].iloc[0]}, expected 0 or 1.")


def _decimal(radii) -> np.ndarray:
    """Radii as the decimals of nine digits that they miss by at most 1e-12; others as they are."""
    try:
        radii = np.asarray(radii, float)
    except (TypeError, ValueError) as error:
        raise InputError(f"radii: got {radii!r}, expected numbers, 0 or more.") from error
    if not np.all((radii >= 0) & np.isfinite(radii)):
        raise InputError(f"radii: got {radii.tolist()}, expected finite numbers, 0 or more.")
    near = np.round(radii, 9)
    return np.where(abs(near - radii) <= 1e-12, near, radii)


def average_certified_radius(log: pd.DataFrame) -> float:
    """ACR: the mean over all images of radius · correct.

    It rewards very large radii on few images and grows with n: read it beside the
    curve, and never compare it across n.

    Source: Zhai et al. 2020, ACR.
    """
    _check_log(log)
    return float((log.radius * log.correct).mean())


def upper_envelope(accuracies: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """At each radius (column) the best accuracy over models (rows), and the model that has it.

    The published rows are such envelopes: at each radius the best of many models, not one model.

    Source: lecture 14, Table 1, Table 2; blog, upper envelopes.
    """
    check_kind("accuracies", accuracies, pd.DataFrame, "a table: a row per model, a column per radius")
    known = accuracies.apply(pd.to_numeric, errors="coerce").notna()
    if not len(accuracies) or not known.any().all():
        raise InputError("accuracies: got a radius at which no model has an accuracy, expected one at least.")
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
    found = list(find_files(paths, "certification log"))
    logs: dict[str, pd.DataFrame] = {}
    files: dict[str, Path] = {}
    left_out: dict[str, list[str]] = {}
    for (path, file), name in zip(found, _model_names(found), strict=True):
        if file != path and is_log(file, attack=True) and not is_log(file):
            left_out.setdefault("of attacks (`--attacks` reads them)", []).append(name)
            continue
        log = read_logs(file, name, left_out, named=file == path)
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


def find_files(paths: list[Path], kind: str) -> Iterator[tuple[Path, Path]]:
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


def read_logs(file: Path, name: str, left_out: dict[str, list[str]], named: bool) -> pd.DataFrame | None:
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


def settings_of(file: Path) -> dict:
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
    made = {name: _certified_with(log, settings_of(found.files[name])) for name, log in found.logs.items()}
    parts = []
    for key in ("n", "n0", "α", "radii"):
        values: dict[str, list[str]] = {}
        for name, known in made.items():
            if key in known:
                values.setdefault(known[key], []).append(name)
        if len(values) > 1:
            parts.append(f"{key} " + ", ".join(f"{value} ({some_of(names)})" for value, names in values.items()))
    return f"These logs were made with different {'; '.join(parts)}." if parts else ""


def some_of(names: list[str], shown: int = 4) -> str:
    """ "a, b, c, d and 3 more"."""
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more


def left_out_sentence(left_out: dict[str, list[str]], shown: int = 4) -> str:
    """ "Left out: 2 logs, empty (…): a, b; 20 logs, short (…): c, d, e, f and 16 more."; "" if none was.

    Broken logs are all named, each with a reason of its own: "Left out: a (no header line)."
    """
    parts = []
    for reason, names in left_out.items():
        if reason == BROKEN:
            parts.append(", ".join(names))
        else:
            parts.append(f"{len(names)} log{'s' * (len(names) > 1)}, {reason}: {some_of(names, shown)}")
    return f"Left out: {'; '.join(parts)}." if parts else ""


def recipes(folders: dict[str, Path]) -> pd.DataFrame:
    """How the model of each run folder was made; "" where unknown.

    Its network and number of weights; epochs; passes: forward passes per training image in all of them
    (`TrainConfig.passes`), which is the budget wherever it ran; minutes; device.
    """
    rows = {}
    for name, folder in folders.items():
        rows[name] = dict.fromkeys(("network", "weights", "epochs", "passes", "minutes", "device"), "")
        if not (folder / "config.json").is_file():
            continue
        config, classes = run_folder.read_run(folder)
        history = read_history(folder)
        epochs = len(history)
        rows[name] |= {"network": config.arch, "epochs": f"{epochs}", "passes": f"{epochs * config.passes:,}"}
        if ":" not in config.arch:  # else it is code
            model = build_model(config.arch, config.dataset, classes, normalization=config.normalization)
            rows[name]["weights"] = f"{count_parameters(model):,}"
        rows[name]["minutes"] = f"{sum(record['seconds'] for record in history) / 60:.1f}"
        rows[name]["device"] = ", ".join(sorted({record["device"] for record in history if "device" in record}))
    return pd.DataFrame.from_dict(rows, orient="index")
