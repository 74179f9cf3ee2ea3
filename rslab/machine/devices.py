"""Which device the work runs on, and in which precision."""

import os

from rslab.config import PRECISIONS, Precision
from rslab.errors import InputError, check_choice, check_kind
from rslab.machine.distributed import world_told


def choose_device(name: str) -> str:
    """The device that `--device NAME` means: "auto" is CUDA when there is one. `InputError` if it is not there.

    Under torchrun every process takes a GPU of its own, the one of its number on its machine.
    """
    import torch  # takes seconds: not before the options are known to be right

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    told = world_told()
    if told.size > 1 and name.startswith("cuda"):
        if name != "cuda":
            raise InputError(f"device: got {name!r} with {told.size} processes, expected cuda: each takes its own.")
        name = f"cuda:{told.local_rank}"
    return check_device(name)


def check_device(name) -> str:
    """The name of this device, of text or a `torch.device`, if it is there; else `InputError`."""
    import torch

    try:
        device = torch.device(check_kind("device", name, (str, torch.device), "auto, cpu, cuda or cuda:N"))
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise InputError(f"device: got {name!r}, expected auto, cpu, cuda or cuda:N.")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(f"device: got {name!r}, expected one of the {torch.cuda.device_count()} CUDA devices here.")
    return str(name)


def device_name(device: str) -> str:
    """What a table calls the device: "cpu", or the name of the GPU."""
    import torch

    return torch.cuda.get_device_name(device) if torch.device(device).type == "cuda" else "cpu"


def check_fits(name: str, count: int, each: int, device: str) -> None:
    """`InputError` if `count` things of `each` bytes are more than the whole memory of the device: a slip of the pen.

    What would really be needed is more, and is not known; where it is too much, the work stops with a `WorkError`.
    """
    import torch

    if torch.device(device).type == "cuda":
        whole = torch.cuda.get_device_properties(device).total_memory
    elif hasattr(os, "sysconf"):
        whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    else:
        return
    if count * each > whole:
        raise InputError(f"{name}: got {count}, expected at most {whole // each}, which fill the memory of {device}.")


def choose_precision(name: str, device: str) -> Precision:
    """The arithmetic that `--precision NAME` means on `device`: "auto" is the fastest that runs there natively.

    `InputError` for one that the device lacks: emulated, it would be slower than float32. On CUDA, "float32"
    also turns off TF32, which keeps 10 of its 23 bits: a log that says float32 must mean it.
    """
    import torch

    check_choice("precision", name, PRECISIONS)
    native = has_bfloat16(device)
    if name == "bfloat16" and not native:
        raise InputError(f"precision: got 'bfloat16', expected 'float32' or 'auto': {device} has no bfloat16 units.")
    if torch.device(device).type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
    return "bfloat16" if native and name != "float32" else "float32"


def has_bfloat16(device: str) -> bool:
    """Whether the device multiplies bfloat16 in hardware: CUDA from Ampere on, x86 with AVX512-BF16 or AMX."""
    import torch

    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_capability(device)[0] >= 8
    tests = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")  # where torch.cpu lacks them: no
    return any(getattr(torch.cpu, test, bool)() for test in tests)
