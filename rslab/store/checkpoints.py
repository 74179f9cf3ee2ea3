"""Published checkpoints as our models. No file is unpickled that could run code."""

import re
import warnings
import zipfile
from pathlib import Path

import torch
from torch import Tensor, nn

from rslab.errors import InputError, check_file, check_path
from rslab.networks.models import build_model
from rslab.store.files import fill_model, load_tensors, reason_of

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
    path = check_file(check_path("path", path, "the path of a checkpoint"), "a checkpoint")
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
    fill_model(model, tensors, path)
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
        raise InputError(f"{path}: got no readable file ({reason_of(error)}), expected a checkpoint.") from error
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
