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
import warnings
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
    """This process's sole hold on a file or folder, until released, forgotten, or the process ends in any way."""

    _file: int | None = None

    def __init__(self, path: Path):
        if fcntl is None and path.is_dir():  # a folder cannot be opened there
            return
        self._file = os.open(path if path.is_dir() else check_file(path), os.O_RDONLY)
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


def save_weights(path: Path, tensors: dict[str, Tensor]) -> None:
    """Replace a safetensors file whole."""
    tensors = {name: tensor.detach().contiguous().clone() for name, tensor in tensors.items()}
    write_whole(path, lambda file: save_file(tensors, file))


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

    The file holds the tensors of a network by name: bare, or under "state_dict", "model" or another of
    `WEIGHT_KEYS`, by torch.save or as safetensors. What wrappers put before the names is removed
    (`WRAPPERS`). "arch" names the network; without it the one is taken that has these tensors.

    It does not say which normalisation it was trained with: Cohen et al. divide by the
    standard deviation ("standard"), Salman et al. only subtract the mean ("center"); with the
    wrong one the accuracy falls to 0–30 %. Loaded with `weights_only=True`: no code runs.
    """
    path = check_file(Path(path), "a checkpoint")
    checkpoint = _open_checkpoint(path)
    arch, states = _find_weights(checkpoint, path)
    first, tensors = _unwrapped(states, path)
    arch = arch or _nearest_architecture(tensors, path)
    head = tensors.get("1.fc.weight")
    if head is None or head.dim() != 2 or not 2 <= len(head) <= 100_000:
        raise InputError(
            f"{path}: got no matrix 'fc.weight' of 2 to 100000 classes but {_some_tensors(tensors)}, "
            f"expected the weights of {arch}."
        )
    dataset = PUBLISHED_DATASETS[arch]
    model = build_model(arch, dataset, len(head), normalization=normalization)
    _fill(model, tensors, path)
    _check_normalization(model[0], first, normalization, path)
    return model.eval(), dataset


WEIGHT_KEYS = (
    *("state_dict", "model_state_dict", "model_state", "model", "net", "network", "weights"),
    *("ema_state_dict", "state_dict_ema", "model_ema", "ema"),  # an average, where nothing else is there
)
# What DataParallel, FSDP, torch.compile and classes around a network put into the names of its tensors.
WRAPPERS = {
    *("module", "_orig_mod", "_forward_module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"),
    *("model", "net", "network", "ema_model", "online_model", "base_model"),
}


class Unused:
    """Stands for a value beside the weights that nobody needs here: it keeps nothing and does nothing."""

    def __new__(cls, *_, **__):
        return super().__new__(cls)

    def __setstate__(self, _):
        pass


def _plain_dict(*_) -> dict:
    return {}


# Harmless types that training code saves beside the weights. None is loaded: `Unused` stands in its place.
_NUMPY = ("scalar", "_reconstruct")
_UNUSED_TYPES = [
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in _NUMPY),  # before and since NumPy 2
    *(f"numpy.{name}" for name in ("ndarray", "dtype", "bool_", "float16", "float32", "float64", "int32", "int64")),
    *(f"numpy.dtypes.{kind}DType" for kind in ("Bool", "Float16", "Float32", "Float64", "Int32", "Int64", "Str")),
    *("_codecs.encode", "argparse.Namespace", "types.SimpleNamespace"),
    *(f"{place}.{kind}Path" for place in ("pathlib", "pathlib._local") for kind in ("Posix", "PurePosix", "Windows")),
    *("pathlib.PureWindowsPath", "pathlib._local.PureWindowsPath"),
    *(f"datetime.{kind}" for kind in ("datetime", "date", "time", "timedelta", "timezone")),
    *(f"builtins.{kind}" for kind in ("list", "dict", "int", "float", "str", "bool", "tuple", "slice", "range")),
]


def _open_checkpoint(path: Path):
    """What torch.save or safetensors wrote, without running code; every other file is refused as what it is."""
    if path.exists() and not path.is_file():
        raise InputError(f"{path}: got no regular file, expected a checkpoint.")
    try:
        with path.open("rb") as file:
            begin = file.read(512)
    except OSError as error:
        raise InputError(f"{path}: got no readable file ({_reason(error)}), expected a checkpoint.") from error
    if instead := _no_checkpoint(begin, path):
        raise InputError(f"{path}: got {instead}.")
    if begin[8:9] == b"{":
        return load_tensors(path)
    _check_unpacked_size(path)
    allowed: list = [(Unused, name) for name in _UNUSED_TYPES] + [(_plain_dict, "collections.defaultdict")]
    try:
        with torch.serialization.safe_globals(allowed), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of other pickle protocols: what cannot be read is said below
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises a dozen kinds on a broken or hostile file
        raise InputError(f"{path}: got {_why_not_loaded(error)}.") from error


def _no_checkpoint(begin: bytes, path: Path) -> str:
    """What a file is, by its first bytes, and what was expected; "" where it may be a checkpoint."""
    start = begin.lstrip().lower()
    if not begin:
        return "an empty file, expected a checkpoint"
    if begin.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, which stands for the file, expected the file itself: `git lfs pull` fetches it"
    if start.startswith((b"<!doctype", b"<html", b"<head", b"<?xml")):
        return "a web page, expected a checkpoint: the download was no direct one"
    if begin.startswith(b"\x1f\x8b"):
        return "a file packed by gzip, expected a checkpoint: unpack it first"
    if begin.startswith(b"PK"):
        try:
            with zipfile.ZipFile(path) as archive:
                names = archive.namelist()
        except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError):
            return "an archive whose end is missing or damaged, expected a whole checkpoint: fetch it once more"
        if any(name.endswith("/constants.pkl") for name in names):
            return "a TorchScript archive, which holds code, expected tensors: save model.state_dict()"
        if not any(name.endswith("data.pkl") for name in names):
            return "an archive that torch.save did not write, expected a checkpoint: unpack it first"
    return ""


def _why_not_loaded(error: Exception) -> str:
    text = str(error)
    if found := re.search(r"(?:unsupported |Unsupported global: )GLOBAL (\S+)", text):
        name = found[1] if "." in found[1] else f"builtins.{found[1]}"
        return (
            f"a checkpoint that contains {name}, which is not loaded, because it would run code, "
            "expected tensors: save model.state_dict()"
        )
    reason = text.split("WeightsUnpickler error: ")[-1].strip().split("\n")[0][:100].strip(" .") or type(error).__name__
    return f"a file that is broken or would run code ({reason}), expected a checkpoint by torch.save"


def _find_weights(checkpoint, path: Path) -> tuple[str | None, dict]:
    """(network or None where the file does not say, tensors by name)."""
    arch, keys = None, []
    for _ in range(3):  # {"model": {"state_dict": …}}
        if not isinstance(checkpoint, dict):
            break
        if isinstance(checkpoint.get("arch"), str):
            arch = _known_architecture(checkpoint["arch"], path)
        keys = [key for key in WEIGHT_KEYS if isinstance(checkpoint.get(key), dict)]
        if not keys:
            break
        checkpoint = checkpoint[keys[0]]
    if not isinstance(checkpoint, dict) or not any(isinstance(value, Tensor) for value in checkpoint.values()):
        found = ", ".join(map(str, list(checkpoint)[:5])) if isinstance(checkpoint, dict) else type(checkpoint).__name__
        raise InputError(
            f"{path}: got no 'state_dict' with tensors but {found or 'nothing'}, expected {{'state_dict'}}."
        )
    for name, tensor in checkpoint.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise InputError(f"{path}: got {type(tensor).__name__} for {name!r} in state_dict, expected tensors.")
    return arch, checkpoint


def _known_architecture(name: str, path: Path) -> str:
    if name in PUBLISHED_DATASETS:
        return name
    if name not in PUBLISHED_ARCHITECTURES:
        raise InputError(f"{path}: got arch {name!r}, expected one of {', '.join(PUBLISHED_ARCHITECTURES)}.")
    return PUBLISHED_ARCHITECTURES[name]


def _check_normalization(layer: nn.Module, first: dict[str, Tensor], name: str, path: Path) -> None:
    """`InputError` where the first layer of a checkpoint does something else than ours."""
    ours = [tensor.flatten() for tensor in layer.buffers()]
    for theirs, tensor in first.items():
        values = tensor.flatten().float()
        if not any(values.shape == mine.shape and torch.allclose(values, mine, atol=1e-3) for mine in ours):
            shown = ", ".join(f"{value:.4g}" for value in values[:4].tolist()) + ", …" * (len(values) > 4)
            raise InputError(
                f"{path}: got {theirs!r} = ({shown}) in the first layer, expected none, or the mean and deviation "
                f"of normalization {name!r}: another network than ours."
            )


def _unwrapped(states: dict[str, Tensor], path: Path) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The tensors by the names that our models give them: of the normalisation layer "0.", and of the network "1."."""
    first: dict[str, Tensor] = {}
    tensors: dict[str, Tensor] = {}
    origin: dict[str, str] = {}
    for name, tensor in states.items():
        plain = ".".join(part for part in name.split(".") if part not in WRAPPERS)
        if plain == "n_averaged":  # of torch's AveragedModel: how many weights were averaged
            continue
        if plain.startswith("0."):  # a normalisation layer kept as buffers: ours has its own
            first[plain] = tensor
            continue
        plain = plain if plain.startswith("1.") else f"1.{plain}"
        if plain in tensors:
            raise InputError(f"{path}: got {origin[plain]!r} and {name!r}, expected the weights of one network.")
        tensors[plain], origin[plain] = tensor, name
    return first, tensors


def _nearest_architecture(tensors: dict[str, Tensor], path: Path) -> str:
    """The published network that shares most names and shapes of tensors, the classes aside; more than half of them."""
    found = _shapes(tensors)
    differences = {}
    for arch, dataset in PUBLISHED_DATASETS.items():
        with torch.device("meta"):
            differences[arch] = len(found ^ _shapes(build_model(arch, dataset, 2).state_dict()))
    nearest = min(differences, key=lambda arch: differences[arch])
    if differences[nearest] > len(found) / 2:
        known = ", ".join(PUBLISHED_DATASETS)
        raise InputError(f"{path}: got no arch and {_some_tensors(tensors)}, expected the weights of one of {known}.")
    return nearest


def _shapes(tensors: dict[str, Tensor]) -> set[tuple]:
    unlike = ("1.fc.weight", "1.fc.bias")
    return {
        (name, *tensor.shape)
        for name, tensor in tensors.items()
        if name not in unlike and not name.endswith("num_batches_tracked")
    }


def _some_tensors(tensors: dict[str, Tensor], shown: int = 3) -> str:
    """The last tensors by name and shape: where another network's classes are."""
    last = [f"{name[2:]!r} {tuple(tensor.shape)}" for name, tensor in list(tensors.items())[-shown:]]
    return f"{len(tensors)} tensors" + (f", the last {', '.join(last)}" if last else "")


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
    """Whether the first line of a file names the columns of a certification log (or of a log of attacks)."""
    return _is_header(_head(path)[:1], attack)


def _is_header(lines: list[str], attack: bool) -> bool:
    return any(_needed(attack) <= set(_fields(line)) for line in lines)


def looks_like_log(path: Path) -> bool:
    """Whether the first line or rows of a file are like those of a log, also of one that `read_log` refuses."""
    head = _head(path)
    if path.suffix == ".tsv" and not path.is_file() and not path.is_dir():
        return True  # a link to nothing, a pipe: named as our logs are
    if _is_header(head[:1], False) or _is_header(head[:1], True):
        return True
    if path.suffix in (".md", ".json", ".jsonl", ".py", ".ipynb", ".tex", ".html"):
        return False
    lines = [line for line in head if line.strip()]
    if lines and (named := len(_named(lines[0]))) >= 3 and ("\t" in lines[0] or 2 * named >= len(_words(lines[0]))):
        return True  # a header, no sentence about one
    return any(_like_rows(lines[start : start + 3]) for start in range(4))  # below a foreign header, or none


def drop_torn_row(path: Path) -> None:
    """Cut off what follows the last line break: the row during which a run was killed."""
    content = check_file(path, "a log", most=LOG_BYTES).read_bytes()
    if not content.endswith(b"\n"):
        with path.open("r+b") as file:
            file.truncate(content.rfind(b"\n") + 1)


def settings_path(log: Path) -> Path:
    """Where the settings of a log stand: NAME.json for NAME.tsv, and for any other NAME (sigma_0.25, as published)."""
    return log.with_name(log.name.removesuffix(".tsv") + ".json")


def read_log(path: Path, *, torn: bool = False) -> pd.DataFrame:
    """A certification or attack log, ours or published, as a table.

    Fields are separated by tabs and read by the name of their column: idx, label, predict and correct, and
    radius or basePredict (or both); `time`, as text, and the columns of `COUNT_COLUMNS` where they are there.
    Others are left out, as are a byte order mark, carriage returns, and white space at the ends.

    Refused with line, column, value and what was expected: a column that is not there, another number of
    fields than the header has, numbers that are none, a negative radius, an image twice, `correct` that
    does not follow from label and prediction. A log without rows gives an empty table. `torn`: a last
    line without its end, of a run that was killed or goes on, is left out.
    """
    path = Path(path)
    lines = _lines(path, torn)
    header = _header(lines[0], path)
    widths = {len(fields) * bool(fields[-1]) for fields in map(_fields, lines[1:])}
    if widths == {len(header) + 1}:  # R gives the numbers of the rows no name
        header = ["", *header]
    rows = [_row(line, number, header, path) for number, line in enumerate(lines[1:], start=2)]
    columns: dict[str, list] = {}
    for place, name in enumerate(header):
        texts = [row[place] for row in rows]
        if name in columns:
            continue  # only of what is not needed: the first counts
        if name == "time":
            columns[name] = texts
        elif name in NEEDED or (name in COUNT_COLUMNS and set(COUNT_COLUMNS) <= set(header)):
            columns[name] = _numbers(name, texts, path)
        elif name in COUNT_COLUMNS:  # another's column that happens to be called n, or our own n
            with suppress(InputError):
                columns[name] = _numbers(name, texts, path)
    types = {name: np.int64 if name in WHOLE else np.float64 for name in columns if name != "time"}
    log = pd.DataFrame(columns).astype({**types, **({"time": object} if "time" in columns else {})})
    _check_log(log, path)
    return log


NEEDED = ("idx", "label", "predict", "correct", "radius", "basePredict")  # one of the last two at least
WHOLE = ("idx", "label", "predict", "basePredict", "correct", "n", "n0")
_LINE_END = re.compile(r"\r*\n|\r")


def _needed(attack: bool) -> set[str]:
    return {*NEEDED[:4], "basePredict" if attack else "radius"}


def _lines(path: Path, torn: bool) -> list[str]:
    """The lines of a text file without their ends, and without empty ones after the last."""
    try:
        content = check_file(path, "a log", most=LOG_BYTES).read_bytes()
        if content.startswith(_UTF16):
            raise InputError(f"{path}: got text in UTF-16, expected a log in UTF-8.")
        if not content:
            raise InputError(f"{path}: got an empty file, expected a log.")
        lines = _LINE_END.split(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        number = error.object.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}: got bytes that are no UTF-8 in line {number}, expected a log.") from error
    except OSError as error:
        raise InputError(f"{path}: got no readable file ({_reason(error)}), expected a log.") from error
    if torn and len(lines) > 1:
        lines.pop()
    while len(lines) > 1 and not lines[-1].strip():
        lines.pop()
    for number, line in enumerate(lines, start=1):
        if "\0" in line:
            raise InputError(f"{path}: got a NUL byte in line {number}, expected a log.")
    return lines


_UTF16 = (b"\xff\xfe", b"\xfe\xff")


def _head(path: Path) -> list[str]:
    """The first lines of a text file; none of any other."""
    try:
        with check_file(path).open("rb") as file:
            content = file.read(8192)
    except (OSError, InputError):
        return []
    text = content.decode("utf-16" if content.startswith(_UTF16) else "utf-8-sig", "ignore")
    return [line for line in _LINE_END.split(text)[:8] if "\0" not in line]  # NULs fill what a crash left unwritten


def _fields(line: str) -> list[str]:
    """What stands between tabs, without the quotation marks of a spreadsheet."""
    return [field.strip().strip('"') for field in line.split("\t")]


def _words(line: str) -> list[str]:
    """What stands between separators of any kind."""
    return [word.strip('"') for word in re.split(r"[\s,;|]+", line.strip())]


def _named(line: str) -> list[str]:
    """The columns of a log among the words of a line, in whatever case."""
    words = [word.lower() for word in _words(line)]
    return [name for name in NEEDED if name.lower() in words]


def _header(line: str, path: Path) -> list[str]:
    """The names of the columns, an unnamed one as ""; `InputError` where one that is needed is not there."""
    names = _fields(line)
    while names and not names[-1]:
        names.pop()
    for attack in (False, True):
        if _needed(attack) <= set(names):
            if twice := [name for name in NEEDED if names.count(name) > 1]:
                raise InputError(f"{path}: got the column {twice[0]!r} twice in the first line, expected it once.")
            return names
    raise InputError(f"{path}: got {_instead_of_header(line, names)}.")


def _instead_of_header(line: str, names: list[str]) -> str:
    columns = " ".join((*CERTIFY_COLUMNS[:5], "…"))
    if any(_needed(attack) <= set(_words(line)) for attack in (False, True)):
        kind = next(
            (kind for mark, kind in ((",", "commas"), (";", "semicolons"), ("|", "bars")) if mark in line), "spaces"
        )
        return f"fields separated by {kind} in the first line, expected fields separated by tabs"
    if len(_named(line)) >= 3:
        absent = next(name for name in (*NEEDED[:4], "radius") if name not in names)
        return f"no column {absent!r} in the first line {_short(line)}, expected {columns}, separated by tabs"
    if _like_rows([line]):
        return f"no header line, expected {columns} above the first row"
    first = f"the first line {_short(line)}" if line.strip() else "an empty first line"
    return f"{first}, expected {columns}, separated by tabs"


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:60] + "…")


_WHOLE = re.compile(r"-?\d+(\.0*)?")
_MEASURED = re.compile(r"\d*\.\d+([eE]-?\d+)?|.*\d+:\d\d:\d\d.*")  # a radius, or a time


def _like_rows(lines: list[str]) -> bool:
    """Whether lines read like rows of a log: three whole numbers, the verdict on the last two, and a radius or time."""
    rows = [_fields(line) if "\t" in line else _words(line) for line in lines]
    width = len(rows[0]) if rows else 0
    if width < 5 or any(len(row) != width for row in rows):
        return False
    for first in (0, 1):  # 1: behind the number of the row
        if not all(_WHOLE.fullmatch(text) for row in rows for text in row[first : first + 3]):
            continue
        others = list(zip(*(row[first + 3 :] for row in rows), strict=True))
        verdicts = [("1", "true") if float(row[first + 1]) == float(row[first + 2]) else ("0", "false") for row in rows]
        judged = any(
            all(text.lower() in verdict for text, verdict in zip(column, verdicts, strict=True)) for column in others
        )
        if judged and any(all(map(_MEASURED.fullmatch, column)) for column in others):
            return True
    return False


def _row(line: str, number: int, header: list[str], path: Path) -> list[str]:
    """The fields of one row, as many as the header has."""
    fields, width = _fields(line), len(header)
    if fields[:width] == header:
        raise InputError(f"{path}: got the header again in line {number}, expected the log of one run.")
    if not line.strip():
        raise InputError(f"{path}: got an empty line {number}, expected a row.")
    if not any(fields[width:]):
        del fields[width:]
    if len(fields) != width:
        count = f"{len(fields)} field" + "s" * (len(fields) != 1)
        raise InputError(
            f"{path}: got {count} in line {number}, expected the {width} of the header, separated by tabs."
        )
    return fields


def _numbers(name: str, texts: list[str], path: Path) -> list:
    """A column as numbers; `InputError` names the first field that is none."""
    if name == "correct":
        texts = [{"true": "1", "false": "0"}.get(text.lower(), text) for text in texts]
    kind = _whole if name in WHOLE else _real
    try:
        return list(map(kind, texts))
    except ValueError:
        for line, text in enumerate(texts, start=2):
            try:
                kind(text)
            except ValueError:
                what = "0 or 1" if name == "correct" else "a whole number" if name in WHOLE else "a number"
                what += " with a decimal point" * ("," in text)
                raise InputError(f"{path}: got {name} = {_short(text)} in line {line}, expected {what}.") from None
        raise


def _real(text: str) -> float:
    """A number as programs write it; Python's own 1_000 is none."""
    if "_" in text:
        raise ValueError(text)
    return float(text)


def _whole(text: str) -> int:
    """A whole number of 64 bits, also where a spreadsheet made it 3.0; else `ValueError`."""
    try:
        _real(text)
        value = int(text)
    except ValueError:
        if not (number := _real(text)).is_integer():
            raise
        value = int(number)
    if not -(2**63) <= value < 2**63:
        raise ValueError(text)
    return value


def _check_log(log: pd.DataFrame, path: Path) -> None:
    def refuse(wrong, name: str, expected: str, how: str = ""):
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            raise InputError(f"{path}: got {name} = {log[name][row]}{how} in line {row + 2}, expected {expected}.")

    refuse(log.idx < 0, "idx", "0 or more")
    refuse(log.idx.duplicated(), "idx", "every image once", " for the second time")
    refuse(log.label < 0, "label", "a class, 0 or more")
    for name in ("predict", "basePredict"):
        if name in log:
            refuse(log[name] < -1, name, "a class, or -1 for an abstention")
    refuse(~log.correct.isin((0, 1)), "correct", "0 or 1")
    refuse((log.correct == 1) & (log.label != log.predict), "correct", "0: label and predict differ there")
    refuse((log.correct == 0) & (log.label == log.predict), "correct", "1: label and predict are equal there")
    if "radius" in log:
        refuse(~np.isfinite(log.radius) | (log.radius < 0), "radius", "a finite number, 0 or more")
        refuse((log.predict == -1) & (log.radius > 0), "radius", "0 for an abstention")
    if set(COUNT_COLUMNS) <= set(log):
        refuse(log.n < 1, "n", "1 or more")
        refuse(log.n0 < 1, "n0", "1 or more")
        refuse(~(log.alpha > 0) | ~(log.alpha < 1), "alpha", "a number strictly between 0 and 1")
        refuse(~(log.count_a >= 0) | ~(log.count_a <= log.n), "count_a", "0 to n")


def read_own_log(path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    """A log to go on with: `read_log` of one that has exactly the form in which rslab writes rows of `columns`."""
    log = read_log(path)
    header, *rows = path.read_bytes().decode().split("\n")
    if header != log_row(columns)[:-1]:
        raise InputError(f"{path}: got columns {' '.join(_fields(header))}, expected {' '.join(columns)}.")
    for number, row in enumerate(rows[:-1], start=2):
        if row.count("\t") != len(columns) - 1 or row != row.strip():
            raise InputError(f"{path}: got line {number} as rslab writes none, expected rows of {' '.join(columns)}.")
    return log
