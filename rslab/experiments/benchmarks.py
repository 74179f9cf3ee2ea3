"""Our code against the plain reference algorithms, alternating in one process, as ratios.

Machines are shared and noisy: only the ratio of neighbouring measurements says
something. The references are what the published code does, written plainly; networks that
add and rectify in place, as the published ones do, are on both sides.
"""

import copy
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from functools import cache, partial

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from rslab import attacks
from rslab.config import Precision, TrainConfig
from rslab.errors import check_choice, check_positive
from rslab.experiments import costs
from rslab.machine.devices import choose_precision
from rslab.networks.compiled import CompiledNetwork, compiled_or_plain, missing_compiler
from rslab.networks.inference import DTYPES, InferenceNetwork, InPrecision
from rslab.networks.models import build_model
from rslab.report.published import published_top_probabilities
from rslab.smoothing.bounds import RADII
from rslab.smoothing.classifier import SmoothedClassifier, default_batch_size, log_mean_probs
from rslab.smoothing.sequential import BETWEEN, SequentialPlan, compare_votes, spacing
from rslab.training.loop import optimizer_for, running_average, train_epoch

SHAPES: dict[str, tuple[str, tuple[int, ...]]] = {
    "cnn": ("digits", (1, 8, 8)),
    "resnet20": ("cifar10", (3, 32, 32)),
    "resnet110": ("cifar10", (3, 32, 32)),
    "resnet14-half": ("cifar10", (3, 32, 32)),
    "resnet50": ("imagenet", (3, 224, 224)),
}


# What `rslab bench` runs, in this order; one name runs its lines.
PROGRAMME = (
    ("certify", "resnet20"),
    ("certify", "resnet110"),
    ("compile", "resnet20"),
    ("compile", "resnet110"),
    ("sampler", "resnet20"),
    ("attack", "resnet20"),
    ("train", "resnet20"),
    ("train", "resnet14-half"),
    ("sequential", "resnet110"),
    ("cost", "resnet20"),
)


DEFAULT_BATCH = 400  # of the published certify.py


def programme(what: str | None, arch: str | None, seconds: float, device: str, precision: str) -> Iterator[dict]:
    """Measure what `rslab bench [WHAT] [--arch ARCH]` asks for; yields each result as it is there."""
    if what is not None:
        check_choice("what", what, dict(PROGRAMME))
    if arch is not None:
        check_choice("arch", arch, SHAPES)
    check_positive("seconds", seconds)
    precision = choose_precision(precision, device)
    lines = [(name, arch or usual) for name, usual in PROGRAMME if what in (None, name)]
    for name, network in dict.fromkeys(lines):
        if name == "cost":
            yield {"what": "cost", "device": device, "precision": precision} | costs.measure_costs(device, precision)
        elif name == "compile" and (reason := missing_compiler()):
            print(f"Note: compile: {reason}: not measured.", file=sys.stderr)
        else:
            yield measure(name, network, seconds, device, precision)


def measure(what: str, arch: str, seconds: float, device: str, precision: str) -> dict:
    """Alternate ours and the references for about 2 · `seconds`; rates are noisy images a second."""
    if what == "sequential":
        return measure_sequential(arch, seconds, device, precision)
    dataset, shape = SHAPES[arch]
    torch.manual_seed(0)
    model = build_model(arch, dataset, 10).to(device).eval()
    images = torch.rand(16 if device == "cpu" else 256, *shape, device=device)
    contenders: dict[str, Callable[[], int]] = BENCHMARKS[what](model, images, precision)
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    first = {}  # seconds of the first call: allocation, warming up, compilation
    for name, call in contenders.items():
        began = time.perf_counter()
        call()
        first[name] = time.perf_counter() - began
    peak, began = 0.0, time.perf_counter()
    while time.perf_counter() - began < 2 * seconds or len(rates["ours"]) < 3:
        peak = max(peak, matrix_peak(device, precision))
        for name, call in contenders.items():
            rates[name].append(_rate(call, device))
    ours = rates.pop("ours")
    per_second = statistics.median(ours)
    found = {
        "what": what,
        "arch": arch,
        "device": device,
        "threads": torch.get_num_threads(),
        "precision": precision,
        "per_second": per_second,
        "preparation_seconds": first["ours"],
        "pairs": len(ours),
        "references": {name: _ratio(ours, theirs) for name, theirs in rates.items()},
    }
    if what in ("certify", "compile"):
        found |= {"peak_flops": peak, "peak_share": operations(model, images[:1]) * per_second / peak}
    return found


def _rate(call: Callable[[], int], device: str) -> float:
    began = time.perf_counter()
    images = call()
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    return images / (time.perf_counter() - began)


def _ratio(ours: list[float], theirs: list[float]) -> dict[str, float]:
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    median = statistics.median(theirs)
    return {"per_second": median, "ratio": statistics.median(ratios), "low": min(ratios), "high": max(ratios)}


def matrix_peak(device: str, precision: str, size: int | None = None) -> float:
    """Operations a second in a product of two large square matrices: the better of two."""
    size = size or (2048 if device == "cpu" else 8192)
    matrix = torch.randn(size, size, device=device, dtype=DTYPES[precision])

    def product() -> int:
        matrix @ matrix
        return 2 * size**3

    return max(_rate(product, device) for _ in range(2))


def operations(model, image) -> int:
    """Multiplications and additions of one forward pass."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(image)
    return counter.get_total_flops()


# -- ours and the references: each a call that returns how many noisy images it worked on ------


def reference_votes(model, x, n: int, batch_size: int, sigma: float = 0.25) -> int:
    """SAMPLEUNDERNOISE as core.py of Cohen et al. 2019 does it: float32, copies repeated, counts in Python."""
    counts, left = np.zeros(10, dtype=int), n
    with torch.no_grad():
        while left > 0:
            size = min(batch_size, left)
            left -= size
            batch = x.repeat((size, 1, 1, 1))
            votes = model(batch + torch.randn_like(batch) * sigma).argmax(1)
            for vote in votes.cpu().numpy():
                counts[vote] += 1
    return n


def _reference_loops(model, x) -> dict[str, Callable[[], int]]:
    """At its default batch, and at the one of these at which this device runs it fastest."""
    device = x.device.type
    size = default_batch_size(x.shape, device)  # smaller for large images
    n, candidates = 2 * size, (size // 4, size // 2, size)

    def rate(batch_size: int) -> float:
        call = lambda: reference_votes(model, x, n, batch_size)  # noqa: E731
        return max(_rate(call, device), _rate(call, device))

    best = max(candidates, key=rate)
    return {
        f"reference, batch {DEFAULT_BATCH}": lambda: reference_votes(model, x, DEFAULT_BATCH, DEFAULT_BATCH),
        f"reference, its best batch {best}": lambda: reference_votes(model, x, n, best),
    }


def _certify(model, images, precision: str):
    x = images[0]
    return _reference_loops(model, x) | {"ours": _votes(InferenceNetwork(model, precision), x)}


def _compile(model, images, precision: str):
    x = images[0]
    network = InferenceNetwork(model, precision)
    with torch.no_grad():
        network(images)  # compared with the model before it is compiled
    ours = {"ours": _compiled_votes(network, x)}
    if x.device.type == "cuda":
        ours["same without a CUDA graph"] = _compiled_votes(network, x, graph=False)
    return _reference_loops(model, x) | ours


def _compiled_votes(network, x, graph: bool = True) -> Callable[[], int]:
    """The first call compiles."""
    build = cache(partial(CompiledNetwork, network, _batch_size(x), tuple(x.shape), str(x.device), graph))
    return lambda: _votes(build(), x)()


def _votes(network, x, sampler: str = "float") -> Callable[[], int]:
    smoothed = SmoothedClassifier(network, 10, 0.25, _batch_size(x), sampler)
    return lambda: int(smoothed.sample_under_noise(x, 4 * _batch_size(x)).sum())


def _batch_size(x) -> int:
    return default_batch_size(x.shape, x.device.type)


def _sequential(model, images, precision: str):
    """Votes in the rhythm of a sequential certification, looks and all: on a CPU for about as many as it takes."""
    x = images[0]
    n, between = 10_000 if x.device.type == "cpu" else 100_000, spacing(_batch_size(x))
    plan = SequentialPlan.within_reach(0.25, RADII, n, 0.001, between=between)
    size = min(between, _batch_size(x))
    network: torch.nn.Module = InferenceNetwork(model, precision)
    network = compiled_or_plain(network, size, images[:size])
    smoothed = SmoothedClassifier(network, 10, 0.25, size)

    def ours() -> int:
        certificate = smoothed.certify_sequential(x, 100, plan)
        return certificate.n0 + certificate.n

    return _reference_loops(model, x) | {"ours": ours}


def _sampler(model, images, precision: str):
    """Noise on the grid, which the proof speaks of, against noise in float32."""
    x = (images[0] * 255).round() / 255
    network = InferenceNetwork(model, precision)
    return {"noise in float32": _votes(network, x), "ours": _votes(network, x, "grid")}


def reference_pgd(model, x, y, noise, epsilon, steps):
    """PGD on G as published: weights frozen, eval mode, float32, the copies repeated."""
    m = len(noise)
    model.eval().requires_grad_(False)
    delta = torch.zeros_like(x, requires_grad=True)
    for _ in range(steps):
        copies = (x + delta).repeat(m, 1, 1, 1) + noise.flatten(0, 1)
        probs = model(copies).softmax(1).unflatten(0, (m, -1)).mean(0)
        loss = torch.nn.functional.nll_loss(probs.log(), y, reduction="sum")
        loss.backward()
        with torch.no_grad():
            norm = delta.grad.flatten(1).norm(dim=1)[:, None, None, None]
            delta += 2 * epsilon / steps * delta.grad / norm
            delta *= (epsilon / delta.flatten(1).norm(dim=1)).clamp_max(1)[:, None, None, None]
            delta.copy_((x + delta).clamp(0, 1) - x)
            delta.grad = None
    model.requires_grad_(True)
    return (x + delta).detach()


def _attack(model, images, precision: str, steps: int = 2, m: int = 4):
    y = torch.arange(len(images), device=images.device) % 10
    noise = torch.randn(m, *images.shape, device=images.device) * 0.25
    network = InferenceNetwork(model, precision)
    copies = len(images) * m * steps

    def reference() -> int:
        reference_pgd(model, images, y, noise, 0.5, steps)
        return copies

    def ours() -> int:
        attacks.pgd(lambda z: log_mean_probs(network, z, noise), images, y, 0.5, steps=steps, keep="last")
        return copies

    return {"reference": reference, "ours": ours}


def _train(model, images, precision: Precision, steps: int = 2, m: int = 2):
    """An epoch of SmoothAdv as `rslab train` runs it, crops, noise and running average included.

    The published step makes m mini-batches of the copies, in float32. The bare network computes as many
    forward and backward passes in our precision, and nothing else: T to the images, one to the weights.
    """
    if images[0].numel() <= 3 * 32 * 32:  # four steps: the first one of an epoch prepares the attack's copy of f
        images = torch.rand(512, *images.shape[1:], device=images.device)
    y = torch.arange(len(images), device=images.device) % 10
    config = TrainConfig(
        method="smoothadv", steps=steps, samples=m, epsilon=0.5, batch_size=128, warmup=0, epochs=1, lr=1e-9,
        augment=True, decayed="matrices", average=0.999, precision=precision,
    )  # fmt: skip
    plain, bare, trained = model, copy.deepcopy(model), copy.deepcopy(model).to(memory_format=torch.channels_last)
    bare.to(memory_format=torch.channels_last)
    optimizer, average = optimizer_for(config, trained), running_average(config, trained)
    plain_sgd = torch.optim.SGD(plain.parameters(), lr=1e-9, momentum=0.9, weight_decay=5e-4)

    batches = list(zip(images.split(config.batch_size), y.split(config.batch_size), strict=True))

    def reference() -> int:
        for x, labels in batches:
            noise = torch.randn(m, *x.shape, device=x.device) * 0.25
            adversarial = reference_pgd(plain, x, labels, noise, 0.5, steps)
            plain.train()
            for copies in adversarial + noise:
                plain_sgd.zero_grad()
                torch.nn.functional.cross_entropy(plain(copies), labels).backward()
                plain_sgd.step()
        return len(images) * m

    def bare_passes() -> int:
        network = InPrecision(bare.train(), precision)
        for x, labels in batches:
            copies, labels = x.repeat(m, 1, 1, 1), labels.repeat(m)
            for to_weights in (*[False] * steps, True):
                bare.requires_grad_(to_weights)
                z = copies.clone().requires_grad_(not to_weights)
                torch.nn.functional.cross_entropy(network(z), labels).backward()
            bare.zero_grad()
        return len(images) * m

    def ours() -> int:
        train_epoch(trained, optimizer, average, (images, y, torch.ones(len(y), device=y.device)), config, 0)
        return len(images) * m

    return {"published step": reference, "bare forward and backward passes": bare_passes, "ours": ours}


METHODS_COMPARED = ("gaussian", "smoothadv")


def votes_saved(n: int, alpha: float, repetitions: int, between: int = BETWEEN) -> dict[str, dict]:
    """`compare_votes` for each published model, and for the four of each method together ("gaussian-all")."""
    rng, rows = np.random.default_rng(0), dict[str, dict]()
    for name, p_a in published_top_probabilities().items():
        rows[name] = compare_votes(np.tile(p_a, repetitions), float(name.split("-")[1]), n, alpha, rng, between)
    for method in METHODS_COMPARED:
        of_method = [row for name, row in rows.items() if name.startswith(method)]
        rows[f"{method}-all"] = {key: statistics.mean(row[key] for row in of_method) for key in of_method[0]}
    for row in rows.values():
        row |= {"speed_up": n / row["votes"], "over_floor": row["votes"] / row["floor"]}
        row["kept"] = row["cells"] / row["cells_fixed"]
    return dict(sorted(rows.items()))


def measure_sequential(arch: str, seconds: float, device: str, precision: str, repetitions: int = 20) -> dict:
    """On the p_A of the published models; and with the speed of a vote, both gains together."""
    n, alpha = 100_000, 0.001
    between = spacing(default_batch_size(SHAPES[arch][1], device.split(":")[0]))
    rows = {size: votes_saved(size, alpha, repetitions, between) for size in (n, n // 10)}
    speed = measure("sequential votes", arch, seconds, device, precision)
    together = {
        reference: {m: found["ratio"] * (100 + n) / (100 + rows[n][f"{m}-all"]["votes"]) for m in METHODS_COMPARED}
        for reference, found in speed["references"].items()
    }
    return {"what": "sequential", "n": n, "alpha": alpha, "rows": rows, "speed": speed, "together": together}


def _format_sequential(result: dict) -> str:
    lines = [f"Votes an image on the p_A of the published models; α = {result['alpha']:g}, every radius of the table:"]
    for n, rows in result["rows"].items():
        lines.append(f"{f'n = {n:,}':14}  votes  speed-up   floor  over the floor  cells kept")
        lines += [
            f"{name:14}{row['votes']:7,.0f}{row['speed_up']:8.1f} ×{row['floor']:8,.0f}{row['over_floor']:14.2f} ×"
            f"{row['kept']:12.2%}"
            for name, row in rows.items()
        ]
    lines.append(format_result(result["speed"]))
    for reference, gains in result["together"].items():
        text = ", ".join(f"{value:.0f} × ({method})" for method, value in gains.items())
        lines.append(f"    both gains together, an image against {result['n']:,} votes of the {reference}: {text}")
    return "\n".join(lines)


def _rounded(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"


def format_result(result: dict) -> str:
    """What `programme` found, as lines for a person."""
    if result["what"] == "sequential":
        return _format_sequential(result)
    if result["what"] == "cost":
        return costs.format_costs(result)
    lines = [
        f"{result['what']}, {result['arch']} on {result['device']}, {result['precision']}, "
        f"{result['threads']} threads: {_rounded(result['per_second'])} noisy images/s"
    ]
    if "peak_share" in result:
        lines[0] += f", {result['peak_share']:.0%} of the matrix peak ({result['peak_flops'] / 1e9:,.0f} GFLOP/s)"
    if result["what"] == "compile":
        lines[0] += f"; prepared in {result['preparation_seconds']:.0f} s"
    for name, found in result["references"].items():
        lines.append(
            f"    {found['ratio']:.2f} × the {name} ({_rounded(found['per_second'])}/s), "
            f"{found['low']:.2f} to {found['high']:.2f} over {result['pairs']} pairs"
        )
    return "\n".join(lines)


BENCHMARKS: dict[str, Callable] = {
    "certify": _certify,
    "compile": _compile,
    "sampler": _sampler,
    "attack": _attack,
    "train": _train,
    "sequential votes": _sequential,
}
