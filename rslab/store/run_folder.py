"""A run's folder on disk, safe loading, and published checkpoints and logs.

    runs/<name>/config.json           every option, versions, checksum of the data
                weights.safetensors   the finished model
                resume.safetensors    model and optimiser after the last epoch, while training
                train.jsonl           a record an epoch
                certify.tsv, .json    a row an image, and the settings that made them

Files from elsewhere are never unpickled. Files are replaced whole or appended row
by row, so that a kill at any moment loses one row at most.
"""

import json
import platform
from pathlib import Path

import torch
from torch import nn

import rslab
from rslab.config import TrainConfig
from rslab.data.datasets import LabeledImages
from rslab.errors import InputError, check_file, check_path
from rslab.networks.models import build_model
from rslab.store import files
from rslab.store.files import load_weights, read_json

RESULTS = Path(__file__).parents[1] / "results"  # the project's own runs, shipped with the package


# -- runs --------------------------------------------------------------------------------

RUN_KEYS = ("rslab", "python", "torch", "num_classes", "data_checksum", "train")


def describe_run(config: TrainConfig, data: LabeledImages) -> dict:
    """What config.json holds."""
    versions = (rslab.__version__, platform.python_version(), torch.__version__)
    return dict(zip(RUN_KEYS, (*versions, data.num_classes, data.checksum, config.to_dict()), strict=True))


def read_run(folder: Path | str) -> tuple[TrainConfig, int]:
    """(configuration, number of classes) of a run folder; unknown keys are refused."""
    path = Path(folder) / "config.json"
    if not path.is_file():
        raise InputError(f"{folder}: got no config.json there, expected a run folder made by `rslab train`.")
    values = read_json(path)
    if values.keys() != set(RUN_KEYS):
        odd = min(values.keys() ^ set(RUN_KEYS))
        raise InputError(f"{path}: got {'unknown' if odd in values else 'no'} key {odd!r}, expected {RUN_KEYS}.")
    classes = values["num_classes"]
    if type(classes) is not int or not 2 <= classes <= 100_000:
        raise InputError(f"{path}: got num_classes = {classes!r}, expected 2 to 100000.")
    return TrainConfig.from_dict(values["train"], source=str(path)), classes


def load_run(folder: Path | str, *, arch: str | None = None) -> tuple[nn.Module, TrainConfig]:
    """The finished model of a run folder, in eval mode on the CPU, and its configuration.

    A network of the caller's, "mypackage.net:build", is code: it runs only where `arch` names it too.
    """
    folder = check_path("folder", folder, "the path of a run folder")
    config, classes = read_run(folder)
    if ":" in config.arch and arch != config.arch:
        raise InputError(f"arch: got {config.arch!r} in {folder}, which is code, expected --arch {config.arch} too.")
    weights = folder / "weights.safetensors"
    if not weights.is_file():
        raise InputError(f"{folder}: got no weights.safetensors, expected a finished run: `rslab train … --resume`.")
    model = build_model(config.arch, config.dataset, classes, normalization=config.normalization)
    return load_weights(weights, model), config


def read_history(run: Path) -> list[dict]:
    """The records of train.jsonl, one an epoch; a torn last line is dropped."""
    path = Path(run) / "train.jsonl"
    if not path.exists():
        return []
    check_file(path, "an epoch a line", most=files.TEXT_BYTES)
    try:
        history = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]
        epochs = [record["epoch"] for record in history]  # with gaps in runs of 0.1.0, which a kill could cost a record
        whole = epochs == sorted(set(epochs)) and all(record["seconds"] >= 0 for record in history)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        whole = False
    if not whole:
        raise InputError(f"{path}: got a line that is no later epoch's record, expected JSON, an epoch a line.")
    return history
