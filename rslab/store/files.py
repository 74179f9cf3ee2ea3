"""Files replaced whole or appended row by row, and tensors: a kill at any moment loses one row at most.

Files from elsewhere are never unpickled.
"""

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from rslab.errors import InputError, WorkError, check_file, check_new_file

try:
    import fcntl
except ImportError:  # Windows: two processes on one run are not noticed there
    fcntl = None  # type: ignore[assignment]


TEXT_BYTES = 16 * 2**20  # nor is any other text of ours: settings, records of epochs, recipes


# -- whole files -------------------------------------------------------------------------


def write_whole(path: Path, write) -> None:
    """Call write(temporary path), then move the result to `path`: there is never half a file."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        os.replace(temporary, path)
    except (OSError, SafetensorError) as error:
        raise WorkError(f"{path}: could not be written ({reason_of(error)}).") from error
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
        raise WorkError(f"{path}: could not be written ({reason_of(error)}).") from error


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
        raise InputError(f"{path}: got no readable JSON ({reason_of(error)}), expected an object.") from error
    if not isinstance(values, dict):
        raise InputError(f"{path}: got {type(values).__name__}, expected a JSON object.")
    return values


def reason_of(error: Exception) -> str:
    """What the system says of a failure, in one line."""
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).split("\n")[0]


# -- tensors -----------------------------------------------------------------------------


def save_weights(path: Path, tensors: dict[str, Tensor]) -> None:
    """Replace a safetensors file whole."""
    tensors = {name: tensor.detach().contiguous().clone() for name, tensor in tensors.items()}
    write_whole(path, lambda file: save_file(tensors, file))


def load_weights(path: Path, model: nn.Module) -> nn.Module:
    """Fill `model` from a safetensors file whose names and shapes are the model's own."""
    fill_model(model, load_tensors(path), path)
    return model.eval()


def load_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file by name; a broken one is an `InputError`."""
    check_file(path, "a safetensors file")
    try:
        return load_file(path)
    except (OSError, SafetensorError, ValueError, KeyError) as error:
        raise InputError(f"{path}: got no readable safetensors file ({reason_of(error)}).") from error


def fill_model(model: nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    """Give `model` the tensors of a file, if names, shapes and kinds are its own; else `InputError`."""
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
