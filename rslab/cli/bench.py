"""`rslab bench`."""

from json import dumps
from typing import Annotated

from cyclopts import Parameter

from rslab.cli.shared import Device
from rslab.experiments.benchmarks import format_result, programme
from rslab.machine.devices import choose_device


def bench(
    what: Annotated[
        str | None,
        Parameter(
            name="WHAT", help="certify, compile, sampler, attack, train, sequential or cost (default: all of them)"
        ),
    ] = None,
    /,
    *,
    arch: Annotated[str | None, Parameter(help="cnn, resnet20, resnet110, resnet14-half or resnet50")] = None,
    seconds: Annotated[float, Parameter(help="Time for each implementation")] = 10.0,
    precision: Annotated[str, Parameter(help="Of ours: auto, float32 or bfloat16")] = "auto",
    json: Annotated[bool, Parameter(help="Machine-readable, a line a result")] = False,
    device: Device = "auto",
):
    """Time this implementation against the plain reference algorithm, in one process, as ratios."""
    for result in programme(what, arch, seconds, choose_device(device), precision):
        print(dumps(result) if json else format_result(result) + "\n", flush=True)
