"""Recipes: a short TOML file, a table a model, that `rslab reproduce` and `rslab demo` carry out.

    [defaults]
    dataset = "digits"
    epochs = 30
    certify.n = 10000

    [gaussian]
    method = "gaussian"

    [smoothadv]
    method = "smoothadv"
    epsilon = 0.5

A table names a run and holds its options (those of `TrainConfig`; below `certify` those of
`CertifySettings`). `defaults` hold for all runs whose method uses them. `pretrained` and
`pseudo_labels` may name a run further up. Runs of a method without noise are trained only, unless
`certify.sigma` says under which noise they are certified.
Every stage that is complete is skipped, every other one resumed.
"""

import re
import time
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PureWindowsPath

import pandas as pd

from rslab.config import NOISY, TrainConfig, options_of
from rslab.data.datasets import load_dataset
from rslab.errors import InputError, check_at_least, check_file, check_new_folder
from rslab.evaluate.certify import certify_dataset
from rslab.evaluate.settings import CertifySettings, chosen_indices
from rslab.store import files, logs, run_folder
from rslab.store.logs import differences
from rslab.store.run_folder import read_history
from rslab.training.loop import train

RECIPES = Path(__file__).parent / "recipe_files"
RUN_NAME = re.compile(r"\w[\w.+-]*")  # it becomes a folder: no way out of the folder of the runs


@dataclass(frozen=True)
class RecipeRun:
    """A table of a recipe: what to train, and how to certify it, if at all."""

    name: str
    train: TrainConfig
    certify: CertifySettings
    certified: bool


def read_recipe(path: Path) -> list[RecipeRun]:
    """The runs of a recipe's file; a mistake is refused with the line of its run."""
    try:
        text = check_file(path, "a recipe", most=files.TEXT_BYTES).read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        known = ", ".join(sorted(recipe.stem for recipe in RECIPES.glob("*.toml")))
        raise InputError(f"recipe: got {path}, which cannot be read, expected one of {known} or a file.") from error
    try:
        tables = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        table = 'a table a model: a line [name], below it lines such as method = "gaussian"'
        raise InputError(f"{path.name}: got no TOML ({error}), expected {table}.") from error
    defaults, runs = tables.pop("defaults", {}), []
    for name, options in ({"defaults": defaults} | tables).items():
        try:
            _check_table(name, options)
            if name != "defaults":
                runs.append(_run(name, defaults, options))
        except InputError as error:
            raise InputError(f"{path.name}, line {_line(text, name, str(error))}: {error}") from error
    if not runs:
        raise InputError(f"recipe: got {path}, which names no run, expected a table a model.")
    return runs


def _check_table(name: str, table) -> None:
    for path, found in ((), table), (("certify",), table.get("certify", {}) if isinstance(table, dict) else {}):
        if not isinstance(found, dict):
            raise InputError(f"{': '.join((name, *path))}: got {found!r}, expected a table of options.")


def _run(name: str, defaults: dict, options: dict) -> RecipeRun:
    if not RUN_NAME.fullmatch(name):
        raise InputError(f"got run name {name!r}, expected one of letters, digits, . _ + and -.")
    certify = {**defaults.get("certify", {}), **options.get("certify", {})}
    own = {key: value for key, value in options.items() if key != "certify"}
    training = {key: value for key, value in (defaults | options).items() if key != "certify"}
    # a default is for the runs that have a use for it; what a run itself says must do something
    unused = TrainConfig.without_use(training) - own.keys()
    used = {key: value for key, value in training.items() if key not in unused}
    config = options_of(TrainConfig, used, source=name)
    settings = options_of(CertifySettings, {"sigma": config.sigma} | certify, source=name)
    return RecipeRun(name, config, settings, config.method in NOISY or "sigma" in certify)


def _line(text: str, name: str, refused: str) -> int:
    """The line of the option that a sentence refuses, in its table or else in the defaults; or that of the table."""
    table, found = "", dict[tuple[str, str], int]()
    for number, line in enumerate(text.split("\n"), start=1):
        if header := re.match(r"""\s*\[\s*["']?([^"'\]]+)""", line):
            table = header[1].strip()
        key = re.match(r"""\s*["']?([\w.-]+)["']?\s*=""", line)
        found.setdefault((table, key[1].removeprefix("certify.") if key else ""), number)
    option = re.match(r"(?:.*?: )?(?:got unknown key ')?(\w+)", refused)
    places = [(table, option[1]) for table in (name, f"{name}.certify", "defaults") if option] + [(name, "")]
    return next((found[place] for place in places if place in found), 1)


@dataclass(frozen=True)
class Stage:
    """One stage of a recipe: training or certifying one run."""

    run: RecipeRun
    kind: str  # "train" or "certify"
    done: int
    total: int  # epochs or images
    seconds_each: float | None  # as measured so far

    @property
    def complete(self) -> bool:
        """Whether nothing of the stage is left to do."""
        return self.done >= self.total


def stages(recipe: list[RecipeRun], out: Path) -> Iterator[Stage]:
    """Every stage in order, with what of it stands in `out`."""
    sizes: dict[str, int] = {}  # of test sets: each is loaded, and its checksum made, once
    for run in _resolved(recipe, out):
        folder = out / run.name
        if (folder / "config.json").exists():
            # other runs by their last name: the folder of all may have moved, also from Windows
            found, wanted = (
                c.with_runs(lambda r: PureWindowsPath(r).name) for c in (run_folder.read_run(folder)[0], run.train)
            )
            if wanted.precision == "auto":  # what the device chose when the run began
                wanted = replace(wanted, precision=found.precision)
            if found != wanted:
                raise InputError(
                    f"{folder}: got a run with other options than the recipe's, expected those of {run.name}."
                )
        history = read_history(folder)
        seconds = [record["seconds"] for record in history]
        finished = (folder / "weights.safetensors").exists()
        epochs = run.train.epochs if finished else min(len(history), run.train.epochs - 1)
        yield Stage(run, "train", epochs, run.train.epochs, _mean(seconds))
        if not run.certified:
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


def _check_certified(run: RecipeRun, log: Path) -> None:
    """`InputError` if a log was made with other options than the recipe's (what it leaves open may be any)."""
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
        raise InputError(f"{log}: got {key} = {begun!r}, expected {wanted!r} as in the recipe of {run.name}.")


def _resolved(recipe: list[RecipeRun], out: Path) -> list[RecipeRun]:
    """The recipe with the names of its own runs, where another run is meant, as folders in `out`."""
    names = {run.name for run in recipe}

    def folder(run: str) -> str:
        return str(out / run) if run in names else run

    return [replace(run, train=run.train.with_runs(folder)) for run in recipe]


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _seconds(log: pd.DataFrame) -> list[float]:
    """The times of a log's rows in seconds ("0:01:30.5" → 90.5), of those that say one so."""
    found = [re.search(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)$", text) for text in log.get("time", ())]
    return [3600 * int(part[1]) + 60 * int(part[2]) + float(part[3]) for part in found if part]


def carry_out(
    recipe: list[RecipeRun],
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
    for run in _resolved(recipe, out):
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
        model, config = run_folder.load_run(folder, arch=run.train.arch)
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
