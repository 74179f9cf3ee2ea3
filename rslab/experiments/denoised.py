"""Denoised smoothing: a denoiser before a classifier that never saw noise, on digits and on four photographs.

Digits: `standard` alone, and behind a denoiser trained by mean squared error or by the stability objective, at two σ
with three seeds; the classifiers are those of the shipped runs `noise/standard-SEED`, images, n0, n and α those of the
combinations' logs, which are read beside them. Photographs: EfficientNet-Lite0 with and without non-local means
before it, on the same noisy copies.

`python -m rslab.experiments.denoised [digits | photographs]` writes `results/denoised` and goes on where it was
stopped. Fifteen minutes of one core for the digits, seven for the photographs, which need `rslab[photographs]`.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import nn

from rslab.data.datasets import LabeledImages, load_dataset
from rslab.data.photographs import PHOTOGRAPHS, load_photographs
from rslab.errors import InputError, WorkError
from rslab.evaluate.certify import certify_dataset
from rslab.evaluate.settings import CertifySettings
from rslab.lectures.pictures import rounded_down
from rslab.machine.randomness import generator_for
from rslab.networks.denoiser import OBJECTIVES, NonLocalMeans, train_denoiser
from rslab.networks.efficientnet import efficientnet_lite
from rslab.networks.inference import InferenceNetwork
from rslab.report.tables import certified_accuracy
from rslab.smoothing import bounds
from rslab.store import files, logs, run_folder
from rslab.training.loop import train_to_end

PLACE = run_folder.RESULTS / "denoised"
SIGMAS, SEEDS = (0.25, 0.5), (0, 1, 2)
IMAGES, N0, N, ALPHA = 200, 100, 10_000, 0.001  # of the combinations' logs
STANDARD = "noise/standard-{seed}"
BESIDE = {0.25: "combinations-tie", 0.5: "combinations-order"}  # Gaussian training and SmoothAdv at each σ
LABELS = {
    "standard": "standard alone",
    "mse": "standard behind a denoiser (MSE)",
    "stability": "standard behind a denoiser (stability)",
    "gaussian": "Gaussian training",
    "4-smoothadv": "SmoothAdv",
}
PHOTOGRAPH_VOTES = 200  # that bound the probability, after N0 that select the class


# -- digits ------------------------------------------------------------------------------


def log_of(kind: str, sigma: float, seed: int) -> Path:
    """Where the certification log of one of `LABELS` lies."""
    if kind in ("gaussian", "4-smoothadv"):
        return run_folder.RESULTS / BESIDE[sigma] / f"{kind}-{seed}" / "certify.tsv"
    if kind == "standard" and sigma == 0.25 and seed == 0:  # the one whose weights are shipped, too
        return run_folder.RESULTS / STANDARD.format(seed=seed) / "certify.tsv"
    return PLACE / f"{kind}-{sigma:g}-{seed}" / "certify.tsv"


def read_logs(sigma: float) -> dict[str, list[pd.DataFrame]]:
    """label → the logs of the three seeds, at one of `SIGMAS`."""
    found = {label: [logs.read_log(log_of(kind, sigma, seed)) for seed in SEEDS] for kind, label in LABELS.items()}
    return {label: [log[log.idx < IMAGES] for log in runs] for label, runs in found.items()}


def accuracy_table(sigma: float, shares: tuple[float, ...] = (0.0, 0.5, 1.0, 1.5, 2.0)) -> pd.DataFrame:
    """Certified accuracy in %, mean over seeds with the lowest and the highest: a row a method, a column a radius."""
    rows = {}
    for label, runs in read_logs(sigma).items():
        found = np.stack([certified_accuracy(log, np.array(shares) * sigma) for log in runs])  # (seeds, radii)
        cells = zip(shares, found.mean(0), found.min(0), found.max(0), strict=True)
        rows[label] = {f"r = {s * sigma:g}": f"{mean:.1f} ({low:g} to {high:g})" for s, mean, low, high in cells}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(f"σ = {sigma:g}")


def difference(ours: list[pd.DataFrame], theirs: list[pd.DataFrame], radius: float) -> tuple[float, float, float]:
    """Certified accuracy of one method minus another's, in points, and its 95 % interval for the choice of the images.

    Mean over the seeds first, then image by image, as in `report.tables.paired_difference`.
    """
    first, second = (
        np.mean([(log.correct == 1) & (log.radius >= radius) for log in runs], 0) for runs in (ours, theirs)
    )
    apart = 100 * (first - second)
    half = 1.96 * apart.std(ddof=1) / len(apart) ** 0.5
    return apart.mean(), apart.mean() - half, apart.mean() + half


def classifier_of(seed: int) -> nn.Module:
    """The digit classifier that was trained without noise; of seeds 1 and 2 only the recipe is shipped.

    Trained again, on another processor, it is another network of the same recipe.
    """
    folder = run_folder.RESULTS / STANDARD.format(seed=seed)
    if (folder / "weights.safetensors").is_file():
        return run_folder.load_run(folder)[0]
    return train_to_end(run_folder.read_run(folder)[0])


def certify_digits(
    kind: str, sigma: float, seed: int, train: LabeledImages, test: LabeledImages, settings: CertifySettings, log: Path
) -> None:
    """Train the denoiser, if `kind` is an objective, and certify f or f∘D; the rest of a log that was begun."""
    f, began = classifier_of(seed), time.perf_counter()
    if kind in OBJECTIVES:
        denoiser = train_denoiser(f, train.images, sigma, kind, seed=seed)
        if seed == 0:  # the lecture shows these; the others follow from the seed
            files.save_weights(log.with_name("weights.safetensors"), denoiser.state_dict())
        f = nn.Sequential(denoiser, f)
    trained = time.perf_counter()
    list(certify_dataset(f, test, settings, log, resume=log.exists()))
    seconds = f"{trained - began:.0f} s to train, {time.perf_counter() - trained:.0f} s to certify"
    print(f"{kind}, σ = {sigma:g}, seed {seed}: {seconds}", flush=True)


def run_digits() -> None:
    """Every log that is not complete."""
    train, test = load_dataset("digits", "train"), load_dataset("digits", "test")
    for seed in SEEDS:
        for sigma in SIGMAS:
            for kind in ("standard", *OBJECTIVES):
                log = log_of(kind, sigma, seed)
                if log.is_file() and len(logs.read_log(log, torn=True)) >= IMAGES:
                    continue
                settings = CertifySettings(sigma, N0, N, ALPHA, max=IMAGES, batch_size=1024, precision="float32")
                certify_digits(kind, sigma, seed, train, test, settings, log)


# -- photographs -------------------------------------------------------------------------


@torch.no_grad()
def vote(networks: dict[str, nn.Module], x: torch.Tensor, sigma: float, n: int, generator) -> dict[str, np.ndarray]:
    """The class that each network gives to the same n noisy copies of x (C, H, W), in the order of drawing: (n,)."""
    votes: dict[str, list[torch.Tensor]] = {name: [] for name in networks}
    for start in range(0, n, 25):
        noisy = x + sigma * torch.randn(min(25, n - start), *x.shape, generator=generator)
        for name, network in networks.items():
            votes[name].append(network(noisy).argmax(1))
    return {name: torch.cat(parts).numpy() for name, parts in votes.items()}


def row_of(votes: np.ndarray, sigma: float, classes: tuple[str, ...]) -> dict:
    """CERTIFY from votes in the order of drawing: the first N0 select the class, the others bound its probability."""
    top = int(np.bincount(votes[:N0], minlength=len(classes)).argmax())
    fresh = votes[N0:]
    lower = bounds.lower_confidence_bound(int((fresh == top).sum()), len(fresh), ALPHA)
    found, counts = np.unique(fresh, return_counts=True)
    most = sorted(zip(counts.tolist(), found.tolist(), strict=True), reverse=True)[:5]
    return {
        "class": classes[top],
        "count": int((fresh == top).sum()),
        "lower": lower,
        "radius": bounds.certified_radius(lower, sigma),  # 0: CERTIFY abstains
        "most votes": {classes[c]: k for k, c in most},
    }


def photograph_table() -> pd.DataFrame:
    """The shipped votes: (σ, photograph) × (network, class | votes | p̲_A | radius)."""
    stored, rows = files.read_json(PLACE / "photographs.json"), {}
    for row in stored["rows"]:
        rows[row["sigma"], row["picture"]] = {
            (network, column): value
            for network in ("alone", "non-local means")
            for column, value in {
                "class": row[network]["class"],
                "votes": f"{row[network]['count']} of {stored['n']}",
                "p̲_A": rounded_down(row[network]["lower"], 3),
                "radius": rounded_down(row[network]["radius"], 2) if row[network]["radius"] else "abstains",
            }.items()
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(["σ", "photograph"])


def run_photographs(path: Path = PLACE / "photographs.json") -> None:
    """Every photograph and σ that is not in the file."""
    data, f = load_photographs(), InferenceNetwork(efficientnet_lite(0))
    stored: dict[str, Any] = (
        files.read_json(path) if path.is_file() else {"n0": N0, "n": PHOTOGRAPH_VOTES, "alpha": ALPHA, "rows": []}
    )
    done = {(row["picture"], row["sigma"]) for row in stored["rows"]}
    for sigma in SIGMAS:
        networks = {"alone": f, "non-local means": nn.Sequential(NonLocalMeans(sigma), f)}
        for index, name in enumerate(PHOTOGRAPHS):
            if (name, sigma) in done:
                continue
            began = time.process_time()
            x, generator = data.images[index], generator_for("certify", 0, index)
            votes = vote(networks, x, sigma, N0 + PHOTOGRAPH_VOTES, generator)
            row = {"picture": name, "sigma": sigma, "label": data.classes[data.labels[index]]}
            row |= {network: row_of(drawn, sigma, data.classes) for network, drawn in votes.items()}
            stored["rows"].append(row | {"seconds": round(time.process_time() - began, 1)})
            files.write_whole(path, lambda place: place.write_text(json.dumps(stored, indent=1) + "\n", "utf-8"))
            print(json.dumps(stored["rows"][-1]), flush=True)
    show_photographs()


def show_photographs(sigma: float = 0.25) -> None:
    """`photographs.jpg`: one noisy copy of each photograph, and below it what non-local means makes of it."""
    images, denoise = load_photographs().images, NonLocalMeans(sigma)
    noise = [
        torch.randn(images.shape[1:], generator=generator_for("predict", 0, index)) for index in range(len(images))
    ]
    noisy = images + sigma * torch.stack(noise)
    rows = [torch.cat(list(row.clamp(0, 1)), dim=2) for row in (noisy, denoise(noisy))]
    pixels = (255 * torch.cat(rows, dim=1)).round().byte().movedim(0, -1).numpy()
    path = PLACE / "photographs.jpg"
    files.write_whole(path, lambda place: Image.fromarray(pixels).save(place, "JPEG", quality=60))


def main(arguments: list[str]) -> None:
    """Run what is named, or both."""
    runs = {"digits": run_digits, "photographs": run_photographs}
    unknown = [name for name in arguments if name not in runs]
    if unknown:
        raise InputError(f"denoised: got {unknown[0]!r}, expected digits or photographs.")
    torch.set_num_threads(1)
    for name in arguments or runs:
        runs[name]()


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (InputError, WorkError) as error:
        sys.exit(f"denoised: {error}")
