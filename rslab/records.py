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
import os
import platform
import re
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

try:
    import fcntl
except ImportError:  # Windows: two processes on one run are not noticed there
    fcntl = None  # type: ignore[assignment]

import rslab
from rslab.config import TrainConfig
from rslab.data import LabeledImages
from rslab.errors import InputError, WorkError, check_file, check_new_file
from rslab.models import build_model

RESULTS = Path(__file__).parent / "results"  # the project's own runs, shipped with the package

# The field's columns (Cohen et al. 2019), then ours.
CERTIFY_COLUMNS = ("idx", "label", "predict", "radius", "correct", "time")
COUNT_COLUMNS = ("count_a", "n", "n0", "alpha")
ATTACK_COLUMNS = ("idx", "label", "predict", "basePredict", "correct", "time")
LOG_BYTES = 256 * 2**20  # no log of a data set is larger
TEXT_BYTES = 16 * 2**20  # nor is any other text of ours: settings, records of epochs, plans

# -- whole files -------------------------------------------------------------------------


def write_whole(path: Path, write) -> None:
    """Call write(temporary path), then move the result to `path`: there is never half a file."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        os.replace(temporary, path)
    except (OSError, SafetensorError) as error:
        raise WorkError(f"{path}: could not be written ({_reason(error)}).") from error
    finally:
        with suppress(OSError):  # no folder, no temporary file
            temporary.unlink()


def append_text(path: Path, text: str) -> None:
    """Append and flush; a failure names the file and loses nothing that was there."""
    try:
        check_new_file("out", path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8", newline="") as file:
            file.write(text)
    except (OSError, InputError) as error:
        raise WorkError(f"{path}: could not be written ({_reason(error)}).") from error


class Claim:
    """This process's sole hold on a file, until released, forgotten, or the process ends in any way."""

    _file: int | None = None

    def __init__(self, path: Path):
        self._file = os.open(check_file(path), os.O_RDONLY)
        try:
            if fcntl is not None:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self.release()
            raise WorkError(f"{path}: another process is writing here; wait for its end, or stop it.") from error

    def release(self) -> None:
        """Let others write; a second call does nothing."""
        if self._file is not None:
            os.close(self._file)
        self._file = None

    __del__ = release

    def during(self, steps: Iterator) -> Iterator:
        """`steps`, with the hold released after the last one."""
        try:
            yield from steps
        finally:
            self.release()


def write_json(path: Path, values: dict) -> None:
    """Replace a JSON file whole."""
    write_whole(path, lambda file: file.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8"))


def read_json(path: Path) -> dict:
    """The object in a JSON file; anything else is an `InputError`."""
    check_file(path, "a JSON file", most=TEXT_BYTES)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: got no readable JSON ({_reason(error)}), expected an object.") from error
    if not isinstance(values, dict):
        raise InputError(f"{path}: got {type(values).__name__}, expected a JSON object.")
    return values


def _reason(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).split("\n")[0]


# -- tensors -----------------------------------------------------------------------------


def save_weights(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Replace a safetensors file whole."""
    tensors = {name: tensor.detach().contiguous().clone() for name, tensor in tensors.items()}
    write_whole(path, lambda file: save_file(tensors, file, metadata))


def load_weights(path: Path, model: nn.Module) -> nn.Module:
    """Fill `model` from a safetensors file whose names and shapes are the model's own."""
    _fill(model, load_tensors(path), path)
    return model.eval()


def load_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file by name; a broken one is an `InputError`."""
    check_file(path, "a safetensors file")
    try:
        return load_file(path)
    except (OSError, SafetensorError, ValueError, KeyError) as error:
        raise InputError(f"{path}: got no readable safetensors file ({_reason(error)}).") from error


def _fill(model: nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    wanted = model.state_dict()
    # Checkpoints older than this counter lack it; it plays no part in a prediction.
    missing = [n for n in wanted if n not in tensors and not n.endswith("num_batches_tracked")]
    foreign = [n for n in tensors if n not in wanted]
    if missing or foreign:
        name, side = (missing[0], "no") if missing else (foreign[0], "unknown")
        raise InputError(f"{path}: got {side} tensor {name!r}, expected the {len(wanted)} tensors of the model.")
    for name, tensor in tensors.items():
        if tensor.shape != wanted[name].shape:
            got, expected = tuple(tensor.shape), tuple(wanted[name].shape)
            raise InputError(f"{path}: got {name!r} of shape {got}, expected {expected}.")
        plain = tensor.layout == torch.strided and tensor.device.type == "cpu" and not tensor.is_quantized
        if not plain or tensor.is_floating_point() != wanted[name].is_floating_point() or tensor.is_complex():
            raise InputError(f"{path}: got {name!r} of {tensor.dtype} ({tensor.layout}), expected plain numbers.")
    model.load_state_dict(tensors, strict=False)


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


def load_run(folder: Path | str) -> tuple[nn.Module, TrainConfig]:
    """The finished model of a run folder, in eval mode on the CPU, and its configuration."""
    config, classes = read_run(folder)
    weights = Path(folder) / "weights.safetensors"
    if not weights.is_file():
        raise InputError(f"{folder}: got no weights.safetensors, expected a finished run: `rslab train … --resume`.")
    model = build_model(config.arch, config.dataset, classes, normalization=config.normalization)
    return load_weights(weights, model), config


PUBLISHED_ARCHITECTURES = {"cifar_resnet20": "resnet20", "cifar_resnet110": "resnet110", "resnet50": "resnet50"}
PUBLISHED_DATASETS = {"resnet20": "cifar10", "resnet110": "cifar10", "resnet50": "imagenet"}


def import_checkpoint(path: Path, *, normalization: str = "standard") -> tuple[nn.Module, str]:
    """A published `checkpoint.pth.tar` as our model, in eval mode, and the name of its data set.

    The file holds {"arch", "state_dict"}; `DataParallel`'s "module." is removed wherever it
    stands. It does not say which normalisation it was trained with: Cohen et al. divide by the
    standard deviation ("standard"), Salman et al. only subtract the mean ("center"); with the
    wrong one the accuracy falls to 0–30 %. Loaded with `weights_only=True`: no code runs.
    """
    path = check_file(Path(path), "a checkpoint")
    _check_unpacked_size(path)
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises a dozen kinds on a broken or hostile file
        raise InputError(f"{path}: got a file that is broken or would run code, expected a checkpoint.") from error
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get("state_dict"), dict):
        raise InputError(f"{path}: got no 'state_dict', expected {{'arch', 'state_dict'}}.")
    arch = PUBLISHED_ARCHITECTURES.get(str(checkpoint.get("arch")))
    if arch is None:
        known = ", ".join(PUBLISHED_ARCHITECTURES)
        raise InputError(f"{path}: got arch {checkpoint.get('arch')!r}, expected one of {known}.")
    tensors = {}
    for name, tensor in checkpoint["state_dict"].items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise InputError(f"{path}: got {type(tensor).__name__} for {name!r} in state_dict, expected tensors.")
        plain = ".".join(part for part in name.split(".") if part != "module")
        if not plain.startswith("0."):  # a normalisation layer kept as buffers: ours has its own
            tensors[plain if plain.startswith("1.") else f"1.{plain}"] = tensor
    head = tensors.get("1.fc.weight")
    if head is None or head.dim() != 2 or not 2 <= len(head) <= 100_000:
        raise InputError(f"{path}: got no matrix 'fc.weight' of 2 to 100000 classes, expected the weights of {arch}.")
    dataset = PUBLISHED_DATASETS[arch]
    model = build_model(arch, dataset, len(head), normalization=normalization)
    _fill(model, tensors, path)
    return model.eval(), dataset


def _check_unpacked_size(path: Path) -> None:
    """torch.save stores tensors uncompressed; an archive that grows when it is read was made to fill the memory."""
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked, packed = sum(part.file_size for part in archive.infolist()), path.stat().st_size
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError):
        return  # not an archive: an older format, or broken, as torch.load will say
    if unpacked > 2 * packed:
        raise InputError(f"{path}: got {packed} bytes that unpack to {unpacked}, expected a checkpoint by torch.save.")


# -- logs --------------------------------------------------------------------------------


def log_row(values) -> str:
    """One line; floats in full precision (repr), never rounded up across a table's radius."""
    return "\t".join(str(value) for value in values) + "\n"


def append_row(path: Path, values) -> None:
    """Append one row to a log."""
    append_text(path, log_row(values))


def is_log(path: Path, *, attack: bool = False) -> bool:
    """Whether `path` is a file that begins like a certification log (or a log of attacks)."""
    start = "\t".join(ATTACK_COLUMNS if attack else CERTIFY_COLUMNS).encode()
    try:
        with check_file(path).open("rb") as file:
            return file.read(len(start)) == start
    except (OSError, InputError):
        return False


def drop_torn_row(path: Path) -> None:
    """Cut off what follows the last line break: the row during which a run was killed."""
    content = check_file(path, "a log", most=LOG_BYTES).read_bytes()
    if not content.endswith(b"\n"):
        with path.open("r+b") as file:
            file.truncate(content.rfind(b"\n") + 1)


_TIME = re.compile(r"(\d+ days?, )?\d+:\d\d:\d\d(\.\d+)?")


def settings_path(log: Path) -> Path:
    """Where the settings of a log stand: NAME.json for NAME.tsv, and for any other NAME (sigma_0.25, as published)."""
    return log.with_name(log.name.removesuffix(".tsv") + ".json")


def read_log(path: Path, *, torn: bool = False) -> pd.DataFrame:
    """A certification or attack log, ours or published, as a table with the file's columns.

    Refused with the row and the reason: other columns, a truncated row, numbers that
    are none, NaN, a negative radius, an image twice, `correct` that does not follow
    from label and prediction. A log without rows gives an empty table. `torn`: a last
    line without its end, of a run that was killed or goes on, is left out.
    """
    path = check_file(Path(path), "a log", most=LOG_BYTES)
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: got no readable text ({_reason(error)}), expected a log.") from error
    header = tuple(lines[0].rstrip("\r").split("\t"))
    if header not in (CERTIFY_COLUMNS, CERTIFY_COLUMNS + COUNT_COLUMNS, ATTACK_COLUMNS):
        raise InputError(f"{path}: got the first line {lines[0][:60]!r}, expected {' '.join(CERTIFY_COLUMNS)} …")
    rows = [line.rstrip("\r").split("\t") for line in lines[1:]]
    if rows and (torn or rows[-1] == [""]):
        rows.pop()
    for number, row in enumerate(rows, start=2):
        if len(row) != len(header) or not _TIME.fullmatch(row[5]):
            raise InputError(f"{path}: got a truncated or foreign row in line {number}, expected {len(header)} fields.")
    log = pd.DataFrame(rows, columns=header)
    whole = [name for name in header if name in ("idx", "label", "predict", "basePredict", "correct", "n", "n0")]
    fractions = [name for name in header if name in ("radius", "count_a", "alpha")]
    try:
        log = log.astype({**dict.fromkeys(whole, np.int64), **dict.fromkeys(fractions, np.float64)})
    except (ValueError, OverflowError) as error:
        raise InputError(f"{path}: got a field that is no number ({_reason(error)}).") from error
    _check_log(log, path)
    return log


def _check_log(log: pd.DataFrame, path: Path) -> None:
    def refuse(wrong, what: str):
        if wrong.any():
            line = int(np.flatnonzero(wrong)[0]) + 2
            raise InputError(f"{path}: got {what} in line {line}, expected the log of one certification run.")

    refuse(log.idx.duplicated(), "an image for the second time")
    refuse(log.idx < 0, "a negative idx")
    refuse(log.correct != (log.label == log.predict), "`correct` that disagrees with label and predict")
    if "radius" in log:
        refuse(~np.isfinite(log.radius) | (log.radius < 0), "a radius that is negative or no number")
        refuse((log.predict == -1) & (log.radius > 0), "a radius for an abstention")
    if "n" in log:
        refuse((log.n < 1) | (log.n0 < 1) | ~(log.alpha > 0) | ~(log.alpha < 1), "n, n0 or alpha out of range")
        refuse(~(log.count_a >= 0) | ~(log.count_a <= log.n), "count_a outside 0 … n")
