"""Which device the work runs on."""

from rslab.distributed import world_told
from rslab.errors import InputError


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
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise InputError(f"device: got {name!r}, expected auto, cpu, cuda or cuda:N.")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(f"device: got {name!r}, expected one of the {torch.cuda.device_count()} CUDA devices here.")
    return name
