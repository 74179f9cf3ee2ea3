"""Plans: a short text file, one line a model, that `rslab reproduce` and `rslab demo` carry out.

    defaults dataset=digits epochs=30 certify.n=10000
    gaussian  method=gaussian
    smoothadv method=smoothadv epsilon=0.5

A line names a run and its options (those of `TrainConfig`; with `certify.` before
them those of `CertifySettings`). A line that begins with `defaults` holds for the
lines below it, where their method uses the option. `pretrained` and `pseudo_labels`
may name a run of an earlier line. Runs of a method without noise are trained only.
Every stage that is complete is skipped, every other one resumed.
"""

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import pandas as pd

from rslab.config import NOISY, TrainConfig
from rslab.data.datasets import load_dataset
from rslab.errors import InputError, check_at_least, check_file, check_new_folder
from rslab.evaluate.certify import certify_dataset
from rslab.evaluate.settings import CertifySettings, chosen_indices
from rslab.store import files, logs, run_folder
from rslab.store.logs import differences
from rslab.store.run_folder import read_history
from rslab.training.loop import train

PLANS = Path(__file__).parent / "plan_files"


RUN_NAME = re.compile(r"\w[\w.+-]*")  # it becomes a folder: no way out of the folder of the runs


@dataclass(frozen=True)
class PlannedRun:
    """A line of a plan: what to train, and how to certify it."""

    name: str
    train: TrainConfig
    certify: CertifySettings


def read_plan(path: Path) -> list[PlannedRun]:
    """The runs of a plan file; a mistake is refused with its line number."""
    try:
        lines = check_file(path, "a plan", most=files.TEXT_BYTES).read_text(encoding="utf-8").split("\n")
    except (OSError, ValueError) as error:
        known = ", ".join(sorted(plan.stem for plan in PLANS.glob("*.txt")))
        raise InputError(f"plan: got {path}, which cannot be read, expected one of {known} or a file.") from error
    defaults: dict[str, str] = {}
    runs: list[PlannedRun] = []
    for number, line in enumerate(lines, start=1):
        words = line.split("#")[0].split()
        if not words:
            continue
        where = f"{path.name}, line {number}"
        options = dict(_key_and_value(word, where) for word in words[1:])
        if words[0] == "defaults":
            defaults |= options
            continue
        if words[0] in (run.name for run in runs) or not RUN_NAME.fullmatch(words[0]):
            raise InputError(f"{where}: got run name {words[0]!r}, expected a new one of letters, digits, . _ + and -.")
        merged = defaults | options
        try:
            training = _typed(TrainConfig, merged, "", where)
            # a default is for the lines that have a use for it; what a line itself says must do something
            dropped = TrainConfig.without_use(training) - options.keys()
            config = TrainConfig(**{key: value for key, value in training.items() if key not in dropped})
            certify = _typed(CertifySettings, merged, "certify.", where)
            runs.append(PlannedRun(words[0], config, CertifySettings(**({"sigma": config.sigma} | certify))))
        except InputError as error:
            prefix = "" if str(error).startswith(where) else f"{where}: "
            raise InputError(f"{prefix}{error}") from error
    if not runs:
        raise InputError(f"plan: got {path}, which names no run, expected one line a model.")
    return runs


def _key_and_value(word: str, where: str) -> tuple[str, str]:
    key, equals, value = word.partition("=")
    known = {field.name for field in fields(TrainConfig)}
    known |= {f"certify.{field.name}" for field in fields(CertifySettings)}
    if not equals or key not in known:
        raise InputError(f"{where}: got {word!r}, expected key=value, such as epochs=30 or certify.n=1000.")
    return key, value


def _typed(cls, options: dict[str, str], prefix: str, where: str) -> dict:
    """The options of one dataclass, converted from text to the annotated types."""
    names = {field.name: str(getattr(field.type, "__name__", field.type)) for field in fields(cls)}
    values = {}
    for key, text in options.items():
        name = key.removeprefix(prefix) if key.startswith(prefix) else None
        if name not in names:
            continue
        kind = names[name].split("|")[0].strip()
        try:
            if kind == "bool":
                values[name] = {"true": True, "false": False}[text.lower()]
            else:
                values[name] = {"int": int, "float": float, "str": str}[kind](text)
        except (ValueError, KeyError) as error:
            raise InputError(f"{where}: got {key}={text}, expected {kind}.") from error
    return values


@dataclass(frozen=True)
class Stage:
    """One stage of a plan: training or certifying one run."""

    run: PlannedRun
    kind: str  # "train" or "certify"
    done: int
    total: int  # epochs or images
    seconds_each: float | None  # as measured so far

    @property
    def complete(self) -> bool:
        """Whether nothing of the stage is left to do."""
        return self.done >= self.total


def stages(plan: list[PlannedRun], out: Path) -> Iterator[Stage]:
    """Every stage in order, with what of it stands in `out`."""
    sizes: dict[str, int] = {}  # of test sets: each is loaded, and its checksum made, once
    for run in _resolved(plan, out):
        folder = out / run.name
        if (folder / "config.json").exists():
            # other runs by their last name: the folder of all may have moved
            found, planned = (c.with_runs(lambda r: Path(r).name) for c in (run_folder.read_run(folder)[0], run.train))
            if found != planned:
                raise InputError(
                    f"{folder}: got a run with other options than the plan's, expected those of {run.name}."
                )
        history = read_history(folder)
        seconds = [record["seconds"] for record in history]
        finished = (folder / "weights.safetensors").exists()
        epochs = run.train.epochs if finished else min(len(history), run.train.epochs - 1)
        yield Stage(run, "train", epochs, run.train.epochs, _mean(seconds))
        if run.train.method not in NOISY:
            continue
        log = folder / "certify.tsv"
        if (name := run.train.dataset) not in sizes:
            sizes[name] = len(load_dataset(name, "test"))
        images = chosen_indices(sizes[name], run.certify.skip, run.certify.max)
        done, times = (), []
        if logs.is_log(log) and b"\n" in log.read_bytes():  # else not even its header is whole
            rows = logs.read_log(log, torn=True)
            done = rows[rows.idx.isin(images)]
            times = _seconds(done)
            if len(rows):
                _check_certified(run, log)
        yield Stage(run, "certify", len(done), len(images), _mean(times))


def _check_certified(run: PlannedRun, log: Path) -> None:
    """`InputError` if a log was made with other options than the plan's (what the plan leaves open may be any)."""
    if not logs.settings_path(log).exists():
        return  # certify_dataset will say so
    given = {key: value for key, value in asdict(run.certify).items() if value is not None and key != "compile"}
    if given["precision"] == "auto":
        del given["precision"]
    if (plan := run.certify.plan()) is not None:
        given["radii"] = list(plan.radii)
    settings = files.read_json(logs.settings_path(log))
    found = {key: value for key, value in settings.items() if key in given}
    for key, wanted, begun in differences(given, found):
        raise InputError(f"{log}: got {key} = {begun!r}, expected {wanted!r} as in the plan of {run.name}.")


def _resolved(plan: list[PlannedRun], out: Path) -> list[PlannedRun]:
    """The plan with the names of its own runs, where another run is meant, as folders in `out`."""
    names = {run.name for run in plan}

    def folder(run: str) -> str:
        return str(out / run) if run in names else run

    return [replace(run, train=run.train.with_runs(folder)) for run in plan]


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _seconds(log: pd.DataFrame) -> list[float]:
    """The times of a log's rows in seconds ("0:01:30.5" → 90.5), of those that say one so."""
    found = [re.search(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)$", text) for text in log.get("time", ())]
    return [3600 * int(part[1]) + 60 * int(part[2]) + float(part[3]) for part in found if part]


def carry_out(
    plan: list[PlannedRun],
    out: Path,
    *,
    device: str = "cpu",
    minutes: float | None = None,
    progress: Callable | None = None,
) -> bool:
    """Train and certify what is not complete; stop cleanly after `minutes`. True when all is complete.

    `progress(iterator, total, done, title)` may wrap the steps of a stage, to draw a bar.
    """
    check_new_folder("out", out)
    deadline = None if minutes is None else time.monotonic() + 60 * check_at_least("minutes", minutes, 0)
    for run in _resolved(plan, out):
        for stage in [stage for stage in stages([run], out) if not stage.complete]:
            if not _carry_out_stage(stage, out / run.name, device, deadline, progress):
                return False
    return True


def _carry_out_stage(stage: Stage, folder: Path, device: str, deadline: float | None, progress) -> bool:
    run = stage.run
    steps: Iterator
    if stage.kind == "train":
        steps = train(run.train, folder, device=device, resume=folder.exists())
        done = 0  # train yields the finished epochs' records again
    else:
        model, config = run_folder.load_run(folder)
        data = load_dataset(config.dataset, "test")
        log = folder / "certify.tsv"
        steps = certify_dataset(model, data, run.certify, log, device=device, resume=log.exists())
        done = stage.done
    if progress is not None:
        steps = progress(steps, stage.total, done, f"{stage.kind} {run.name}")
    for count, _ in enumerate(steps, start=done + 1):
        # at least one new step in every call: the first ones of a resumed training are repeated records
        if deadline is not None and time.monotonic() > deadline and stage.done < count < stage.total:
            return False
    return True
