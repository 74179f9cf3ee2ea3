"""`rslab train`."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from rslab.cli.shared import Device, Options, Resume, bar, finish
from rslab.config import METHODS, Method, TrainConfig
from rslab.errors import check_new_folder
from rslab.machine.devices import choose_device

LINES = "; ".join(f"{name}: {line}" for name, line in METHODS.items())


@dataclass(frozen=True)
class Chosen(TrainConfig):
    """The options, with a line on each method."""

    method: Annotated[Method, Parameter(help=LINES)] = "gaussian"


DEFAULTS = Chosen()


def train(
    *,
    out: Annotated[Path | None, Parameter(help="Run folder (default runs/DATASET-ARCH-METHOD-σ)")] = None,
    chosen: Annotated[Chosen, Options] = DEFAULTS,
    device: Device = "auto",
    resume: Resume = False,
):
    """Train a classifier; by --method, from no noise at all to SmoothAdv."""
    config = TrainConfig(**asdict(chosen))
    arch = config.arch.replace(":", ".")  # of a function's name a folder's
    name = f"{config.dataset}-{arch}-{config.method}-{config.sigma:g}"
    out, device = check_new_folder("out", out or Path("runs") / name), choose_device(device)
    from rslab.training import loop  # PyTorch, which --help does without

    finish(bar(loop.train(config, out, device=device, resume=resume), config.epochs, 0, f"train {out.name}"))
    print(out)
