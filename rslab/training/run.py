"""A run on disk while it trains: begun, kept after each epoch, resumed, finished."""

import json
import re
from pathlib import Path

import torch

from rslab.errors import InputError, WorkError
from rslab.networks.inference import DTYPES
from rslab.store import files, logs, run_folder
from rslab.store.run_folder import read_history


def finish_run(out: Path, model, stored: str) -> None:
    """Keep the finished model, its matrices as `stored`, and no longer the state from which to go on."""
    if not (out / "weights.safetensors").exists():
        dtype = DTYPES[stored]  # of vectors the batch norms' are the most delicate, and they weigh nothing
        state = {name: value.to(dtype) if value.ndim > 1 else value for name, value in model.state_dict().items()}
        files.save_weights(out / "weights.safetensors", state)
    (out / "resume.safetensors").unlink(missing_ok=True)


def save_state(path: Path, model, optimizer, average, epoch: int) -> None:
    """All from which the next epoch goes on: weights, momentum, running average, and which epoch was the last."""
    state = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    for number, parameter in enumerate(model.parameters()):
        if (buffer := optimizer.state[parameter].get("momentum_buffer")) is not None:
            state[f"momentum.{number}"] = buffer
    if average is not None:
        state |= {f"average.{name}": tensor for name, tensor in average.state_dict().items()}
    files.save_weights(path, {**state, "epoch": torch.tensor(epoch)})


def open_run(out: Path, config, data, model, optimizer, average, resume: bool) -> tuple[int, list[dict], files.Claim]:
    """Make the run folder or, to resume, load its state: (first epoch to train, records so far, hold on the run)."""
    others = [file for file in _files(out) if not UNFINISHED.fullmatch(file.name)]
    if others and not (out / "config.json").exists():
        raise InputError(f"out: got {out}, which holds other files, expected a new folder or a run to resume.")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WorkError(f"{out}: could not be written ({error.strerror}).") from error
    claim = files.Claim(out)  # before the first look and write: of two starters one goes on
    try:
        return *_opened(out, config, data, model, optimizer, average, resume), claim
    except BaseException:
        claim.release()
        raise


# what a kill inside a write leaves
UNFINISHED = re.compile(r"\.(config\.json|train\.jsonl|(weights|resume)\.safetensors)\.\d+")


def _files(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else [folder] if folder.exists() else []


def has_epochs(out: Path) -> bool:
    """Whether an epoch was finished in a run folder: else it may be begun anew, with other options too."""
    names = ("weights.safetensors", "resume.safetensors", "train.jsonl")
    return (out / "config.json").exists() and any((out / name).exists() for name in names)


def _opened(out: Path, config, data, model, optimizer, average, resume: bool) -> tuple[int, list[dict]]:
    """The first epoch to train and the records so far, of a folder that this process holds."""
    if not has_epochs(out):
        if (out / "config.json").exists():
            run_folder.read_run(out)  # a run's, or refused: no other file is replaced
        for file in _files(out):
            if UNFINISHED.fullmatch(file.name):
                file.unlink(missing_ok=True)
        files.write_json(out / "config.json", run_folder.describe_run(config, data))
        return 0, []
    if not resume:
        raise InputError(f"out: got {out}, which holds a run already, expected a new folder, or --resume.")
    # folders in full: the same one may be written in two ways
    found, config = (
        one.with_runs(lambda run: str(Path(run).resolve())) for one in (run_folder.read_run(out)[0], config)
    )
    if found != config:
        name = next(field for field, value in config.to_dict().items() if value != getattr(found, field))
        raise InputError(f"{name}: got {getattr(config, name)!r}, expected {getattr(found, name)!r} as {out} began.")
    if (checksum := files.read_json(out / "config.json")["data_checksum"]) != data.checksum:
        raise InputError(f"data: got checksum {data.checksum[:12]}…, expected {str(checksum)[:12]}… as {out} began.")
    if (out / "train.jsonl").exists():
        logs.drop_torn_row(out / "train.jsonl")  # or the next record would be written behind it
    history = read_history(out)
    if (out / "weights.safetensors").exists():
        return config.epochs, history
    if not (out / "resume.safetensors").exists():
        if history and history[-1]["epoch"] == config.epochs - 1:  # of some shipped runs the logs alone are kept
            raise InputError(f"out: got {out}, a finished run without its weights, expected a new folder.")
        (out / "train.jsonl").unlink(missing_ok=True)  # records of epochs that are trained anew
        return 0, []
    state = files.load_tensors(out / "resume.safetensors")
    try:
        epoch = int(state["epoch"])
        if not 0 <= epoch < config.epochs:
            raise ValueError(f"epoch {epoch}")
        model.load_state_dict({n[6:]: tensor for n, tensor in state.items() if n.startswith("model.")})
        for number, parameter in enumerate(model.parameters()):
            if (buffer := state.get(f"momentum.{number}")) is not None:
                if buffer.shape != parameter.shape or not buffer.is_floating_point():
                    raise ValueError(f"momentum.{number}")
                optimizer.state[parameter]["momentum_buffer"] = buffer.to(parameter.device)
        if average is not None:
            average.load_state_dict({n[8:]: tensor for n, tensor in state.items() if n.startswith("average.")})
    except (KeyError, RuntimeError, ValueError, OverflowError) as error:
        raise InputError(f"{out}/resume.safetensors: got another model's state, expected {config.arch}.") from error
    before = [record for record in history if record["epoch"] <= epoch]
    if before != history:  # stopped between the record of an epoch and its state
        lines = "".join(json.dumps(record) + "\n" for record in before)
        files.write_whole(out / "train.jsonl", lambda file: file.write_text(lines, encoding="utf-8", newline=""))
    return epoch + 1, before
