"""Our code against the plain reference algorithms, alternating in one process, as ratios.

Machines are shared and noisy: only the ratio of neighbouring measurements says
something. The references are what the published code does, written plainly.
"""

import json
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from rslab import attacks, bounds
from rslab.config import TrainConfig
from rslab.errors import check_choice, check_positive
from rslab.inference import InferenceNetwork
from rslab.losses import Step, smoothadv_loss
from rslab.models import build_model, fold_batchnorm
from rslab.records import RESULTS
from rslab.sequential import SequentialPlan, oracle_votes, simulate
from rslab.smoothing import SmoothedClassifier, log_mean_probs
from rslab.tables import RADII

SHAPES = {"cnn": ("digits", 1, 8), "resnet20": ("cifar10", 3, 32), "resnet110": ("cifar10", 3, 32)}


def measure(what: str, arch: str, seconds: float, device: str) -> dict:
    """Alternate both implementations for about 2 · `seconds`; rates are noisy images a second."""
    check_choice("what", what, (*BENCHMARKS, "sequential"))
    check_choice("arch", arch, SHAPES)
    check_positive("seconds", seconds)
    if what == "sequential":
        return measure_sequential(arch, seconds, device)
    dataset, channels, size = SHAPES[arch]
    torch.manual_seed(0)
    model = build_model(arch, dataset, 10).to(device).eval()
    images = torch.rand(16, channels, size, size, device=device)
    reference, ours, noisy_images = BENCHMARKS[what](model, images)
    rates: dict[str, list[float]] = {"reference": [], "ours": []}
    reference(), ours()  # allocate and warm up
    began = time.perf_counter()
    while time.perf_counter() - began < 2 * seconds or len(rates["ours"]) < 3:
        for name, call in (("reference", reference), ("ours", ours)):
            rates[name].append(noisy_images / _seconds(call, device))
    ratios = [b / a for a, b in zip(rates["reference"], rates["ours"], strict=True)]
    return {
        "what": what,
        "arch": arch,
        "device": device,
        "threads": torch.get_num_threads(),
        "reference_per_second": statistics.median(rates["reference"]),
        "ours_per_second": statistics.median(rates["ours"]),
        "ratio": statistics.median(ratios),
        "ratio_low": min(ratios),
        "ratio_high": max(ratios),
        "pairs": len(ratios),
    }


def _seconds(call: Callable, device: str) -> float:
    began = time.perf_counter()
    call()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter() - began


def format_result(result: dict, as_json: bool) -> str:
    """What `measure` found, as lines for a person or as JSON."""
    if as_json:
        return json.dumps(result)
    if result["what"] == "sequential":
        return _format_sequential(result)
    return (
        f"{result['what']}, {result['arch']} on {result['device']}: {result['ours_per_second']:,.0f} noisy images/s, "
        f"reference {result['reference_per_second']:,.0f}/s, ratio {result['ratio']:.2f} "
        f"({result['ratio_low']:.2f} to {result['ratio_high']:.2f} over {result['pairs']} pairs)"
    )


def _certify(model, images):
    """Reference: core.py of Cohen et al. 2019 at its default batch of 400, counting in Python."""
    n, sigma, x = 1000, 0.25, images[0]

    @torch.no_grad()
    def reference():
        counts, left = np.zeros(10, dtype=int), n
        while left > 0:
            size = min(400, left)
            left -= size
            batch = x.repeat((size, 1, 1, 1))
            votes = model(batch + torch.randn_like(batch) * sigma).argmax(1)
            for vote in votes.cpu().numpy():
                counts[vote] += 1

    network = fold_batchnorm(model).to(memory_format=torch.channels_last)
    smoothed = SmoothedClassifier(network, 10, sigma)
    return reference, lambda: smoothed.sample_under_noise(x, n), n


def _reference_pgd(model, x, y, noise, epsilon, steps):
    """PGD as published: weights keep their gradients, the copies are repeated by the caller's m."""
    m = len(noise)
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
    return (x + delta).detach()


def _attack(model, images, steps=2, m=4):
    y = torch.arange(len(images), device=images.device) % 10
    noise = torch.randn(m, *images.shape, device=images.device) * 0.25
    network = InferenceNetwork(model)

    def ours():
        attacks.pgd(lambda z: log_mean_probs(network, z, noise), images, y, 0.5, steps=steps, keep="last")

    return lambda: _reference_pgd(model, images, y, noise, 0.5, steps), ours, len(images) * m * steps


def _train(model, images, steps=2, m=4):
    y = torch.arange(len(images), device=images.device) % 10
    config = TrainConfig(method="smoothadv", steps=steps, samples=m, epsilon=0.5)
    step = Step(config, config.epsilon, torch.Generator(images.device).manual_seed(0))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0, momentum=0.9)

    def update(loss):
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def reference():
        noise = torch.randn(m, *images.shape, device=images.device) * 0.25
        model.eval()
        adversarial = _reference_pgd(model, images, y, noise, 0.5, steps)
        model.train()
        copies = adversarial.repeat(m, 1, 1, 1) + noise.flatten(0, 1)
        update(torch.nn.functional.cross_entropy(model(copies), y.repeat(m)))

    def ours():
        model.train()
        update(smoothadv_loss(model, images, y, step)[0].mean())

    return reference, ours, len(images) * m


# -- fewer votes -----------------------------------------------------------------------------


def published_top_probabilities() -> dict[str, np.ndarray]:
    """p_A as the best published CIFAR-10 models imply it: "gaussian-0.25" → 1,000 quantiles, increasing.

    Counts out of n = 100,000 votes that Clopper–Pearson turns into the radii of the logs of Cohen et
    al. 2019 ("gaussian") and Salman et al. 2019 ("smoothadv"), as Salman et al. published them: every tenth of the
    10,000 test images, sorted. An abstention says p_A ≤ ½ only: these are spread evenly over ¼ … ½.
    """
    with np.load(RESULTS / "published_votes.npz") as file:
        return {name: file[name] / 100_000 for name in sorted(file.files)}


def compare_votes(p_a: np.ndarray, sigma: float, n: int, alpha: float, rng: np.random.Generator) -> dict:
    """Votes an image, and the table's cells, of the sequential bound against n votes each: a simulation."""
    plan = SequentialPlan.within_reach(sigma, RADII, n, alpha)
    votes, passed = simulate(plan, p_a, rng)
    lower = bounds.lower_confidence_bound(rng.binomial(n, p_a), n, alpha)
    fixed = (bounds.certified_radius(lower, sigma)[:, None] >= np.array(plan.radii))[lower > 0.5].sum()
    values, images = np.unique(p_a, return_counts=True)
    floor = float(np.average([oracle_votes(plan, p) for p in values], weights=images))
    return {"votes": float(votes.mean()), "floor": floor, "cells": int(passed.sum()), "cells_fixed": int(fixed)}


def measure_sequential(arch: str, seconds: float, device: str, repetitions: int = 20) -> dict:
    """On the p_A of the published models; and with the speed of a vote, both gains together."""
    n, alpha, rng = 100_000, 0.001, np.random.default_rng(0)
    rows = {}
    for name, p_a in published_top_probabilities().items():
        row = compare_votes(np.tile(p_a, repetitions), float(name.split("-")[1]), n, alpha, rng)
        rows[name] = row | {
            "speed_up": n / row["votes"],
            "over_floor": row["votes"] / row["floor"],
            "kept": row["cells"] / row["cells_fixed"],
        }
    votes = {m: statistics.mean(r["votes"] for k, r in rows.items() if k.startswith(m)) for m in METHODS_COMPARED}
    speed = measure("certify", arch, seconds, device)
    together = {m: speed["ratio"] * (100 + n) / (100 + votes[m]) for m in METHODS_COMPARED}
    return {"what": "sequential", "n": n, "alpha": alpha, "rows": rows, "certify": speed, "together": together}


METHODS_COMPARED = ("gaussian", "smoothadv")


def _format_sequential(result: dict) -> str:
    lines = [
        f"Votes an image on the p_A of the published models; n = {result['n']:,}, α = {result['alpha']:g}, "
        "every radius of the table that n allows:",
        "model-σ         votes  speed-up   floor  over the floor  cells kept",
    ]
    for method in METHODS_COMPARED:
        rows = {name: row for name, row in result["rows"].items() if name.startswith(method)}
        votes, floor, cells, fixed = (
            sum(row[key] for row in rows.values()) for key in ("votes", "floor", "cells", "cells_fixed")
        )
        total = dict(votes=votes / len(rows), floor=floor / len(rows), speed_up=result["n"] * len(rows) / votes)
        rows |= {f"{method} all": total | dict(over_floor=votes / floor, kept=cells / fixed)}
        for name, row in rows.items():
            lines.append(
                f"{name:14}{row['votes']:7,.0f}{row['speed_up']:8.1f} ×{row['floor']:8,.0f}{row['over_floor']:14.2f} ×"
                f"{row['kept']:12.2%}"
            )
    lines.append(format_result(result["certify"], False))
    gains = ", ".join(f"{value:.0f} × ({method})" for method, value in result["together"].items())
    lines.append(f"Both gains together, an image against the reference's n votes: {gains}")
    return "\n".join(lines)


BENCHMARKS: dict[str, Callable] = {"certify": _certify, "attack": _attack, "train": _train}
