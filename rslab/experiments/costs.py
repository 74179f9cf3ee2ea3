"""What certification and attack cost as the work grows: one quantity at a time, the others held.

Time is that of a noisy image through the network, which is nearly all of both; memory is the peak
of a process of its own, beyond what it holds before the work begins.
"""

import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch
from torch import nn

from rslab import attacks
from rslab.networks.inference import InferenceNetwork
from rslab.networks.models import STATISTICS, CifarResNet, Normalize
from rslab.smoothing.classifier import SmoothedClassifier, default_batch_size, log_mean_probs

# What grows → its values; where it does not grow it is as in USUAL.
GROWING = {
    "n": (16, 128, 1024, 8192),
    "image size": (8, 16, 32, 64, 128, 224),
    "classes": (10, 100, 1000, 10_000, 100_000),
    "batch": (1, 4, 16, 64, 128, 256, 1024),
    "depth": (8, 20, 56, 110),
}
USUAL = {"n": 1024, "image size": 32, "classes": 10, "batch": 0, "depth": 20}  # batch 0: the default
MEMORY = {"certify, batch": (16, 128, 1024), "attack, m": (1, 4, 16, 64)}  # the attack: PGD on 8 images
MEGABYTE = 2**20


def measure_costs(device: str, precision: str) -> dict:
    """Seconds and peak memory as each quantity grows: {"seconds": {quantity: [row, …]}, "memory": …}."""
    seconds = {}
    for quantity, values in GROWING.items():
        seconds[quantity] = [_row(quantity, value, device, precision) for value in values]
    memory = {
        kind: [{"value": value, "bytes": peak_memory(kind, value, device, precision)} for value in values]
        for kind, values in MEMORY.items()
    }
    return {"seconds": seconds, "memory": memory}


def resnet(depth: int, classes: int) -> nn.Sequential:
    """A CIFAR ResNet of any depth 6k + 2: it takes images of any size."""
    torch.manual_seed(0)
    return nn.Sequential(Normalize(*STATISTICS["cifar10"]), CifarResNet(depth, classes))


def _row(quantity: str, value: int, device: str, precision: str) -> dict:
    options = {**USUAL, quantity: value}
    work = options["n"] * options["image size"] ** 2 * options["depth"]
    if quantity != "n":  # as many votes as take about as long as the usual ones
        options["n"] = max(16, int(options["n"] * (USUAL["n"] * USUAL["image size"] ** 2 * USUAL["depth"]) / work))
    if device != "cpu":
        options["n"] *= 16
    x = torch.rand(3, options["image size"], options["image size"], device=device)
    network = InferenceNetwork(resnet(options["depth"], options["classes"]), precision).to(device)
    smoothed = SmoothedClassifier(network, options["classes"], 0.25, options["batch"] or None)
    smoothed.sample_under_noise(x, min(options["n"], 256))  # warm up

    def once() -> float:
        began = time.perf_counter()
        smoothed.sample_under_noise(x, options["n"])
        return time.perf_counter() - began

    seconds = min(once() for _ in range(2))
    return {"value": value, "n": options["n"], "seconds": seconds, "microseconds_a_vote": 1e6 * seconds / options["n"]}


# -- memory --------------------------------------------------------------------------------


def peak_memory(kind: str, value: int, device: str, precision: str) -> int:
    """Bytes that "certify, batch" or "attack, m" of this size takes at its peak, measured in a process of its own."""
    return in_a_process(_peak, kind, value, device, precision)


def in_a_process(call: Callable, *arguments):
    """call(*arguments) in a fresh process, whose peak is its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(call, *arguments).result()


def _peak(kind: str, value: int, device: str, precision: str) -> int:
    network = InferenceNetwork(resnet(USUAL["depth"], USUAL["classes"]), precision).to(device)
    smoothed = SmoothedClassifier(network, 10, 0.25, batch_size=value)

    def work(x: torch.Tensor, many: int) -> None:
        if kind == "attack, m":
            y = torch.zeros(len(x), dtype=torch.long, device=device)
            noise = 0.25 * torch.randn(many, *x.shape, device=device)
            attacks.pgd(lambda z: log_mean_probs(network, z, noise), x, y, 0.5, steps=2)
        else:
            smoothed.sample_under_noise(x[0], 2 * many)

    work(torch.rand(1, 3, 8, 8, device=device), 1)  # what the libraries themselves need
    before = process_peak(device)
    work(torch.rand(8, 3, 32, 32, device=device), value)
    return process_peak(device) - before


def process_peak(device: str) -> int:
    """The most bytes that this process has held so far: on a GPU of its memory, else of main memory."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")
    if status.exists():  # Linux, whose getrusage counts what the parent held
        (line,) = (line for line in status.read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM"))
        return 1024 * int(line.split()[1])
    try:
        import resource
    except ImportError:  # Windows, where the kernel that comes with JupyterLab needs this one
        import psutil

        return psutil.Process().memory_info().peak_wset
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # macOS: bytes


def format_costs(found: dict) -> str:
    """The table, as lines for a person."""
    lines = [f"Cost as work grows, ResNet on {found['device']}, {found['precision']}; the rest is depth 20, 3×32×32,"]
    size = default_batch_size((3, 32, 32), found["device"].split(":")[0])
    lines.append(f"10 classes and batches of {size}; microseconds are those of a vote:")
    for quantity, rows in found["seconds"].items():
        cells = "  ".join(f"{row['value']:,}: {row['microseconds_a_vote']:,.0f} µs" for row in rows)
        lines.append(f"    {quantity:16} {cells}")
    for kind, rows in found["memory"].items():
        cells = "  ".join(f"{row['value']:,}: {row['bytes'] / MEGABYTE:,.0f} MiB" for row in rows)
        lines.append(f"    {kind:16} {cells}")
    return "\n".join(lines)
