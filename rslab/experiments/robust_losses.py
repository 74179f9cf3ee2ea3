"""The robust loss of a training run after each epoch, on training images and on test images.

A run of `results/mnist-linf` is trained again from its own `config.json`; after each epoch the network is attacked
on 500 images of either split, every 120th of training and every 20th of test, by one step (FGSM) and by PGD with 40.

`python -m rslab.experiments.robust_losses pgd fgsm` writes `robust.jsonl` beside each `config.json`, an epoch a line;
a quarter of an hour on one core.
"""

import json
import sys
from pathlib import Path

import torch
from torch import Tensor, nn

from rslab.attacks import cross_entropy, fgsm, pgd
from rslab.config import TrainConfig
from rslab.data.datasets import load_dataset
from rslab.networks.inference import fold_batchnorm
from rslab.store.files import read_json
from rslab.store.run_folder import RESULTS
from rslab.training.loop import train

PLACE = RESULTS / "mnist-linf"
IMAGES, STEPS, STEP_SIZE = 500, 40, 0.02


def attacked(network: nn.Module, images: Tensor, labels: Tensor, epsilon: float) -> dict[str, dict[str, float]]:
    """Mean loss and accuracy (a share) without attack, under FGSM, and under PGD with 40 steps."""
    perturbed = {
        "clean": images,
        "FGSM": fgsm(network, images, labels, epsilon),
        "PGD": pgd(network, images, labels, epsilon, norm="linf", steps=STEPS, step_size=STEP_SIZE),
    }
    with torch.no_grad():
        scores = {attack: network(x) for attack, x in perturbed.items()}
    return {
        attack: {
            "loss": round(float(cross_entropy(z, labels).mean()), 4),
            "accuracy": round(float((z.argmax(1) == labels).float().mean()), 4),
        }
        for attack, z in scores.items()
    }


def watch(folder: Path) -> list[dict]:
    """Train as `folder/config.json` says; the records, an epoch each, also written to `folder/robust.jsonl`."""
    config = TrainConfig.from_dict(read_json(folder / "config.json")["train"])
    shown = {}
    for split in ("train", "test"):
        data = load_dataset(config.dataset, split)
        every = slice(None, None, len(data) // IMAGES)
        shown[split] = data.images[every], data.labels[every]
    records = []
    for epoch in train(config):
        network = fold_batchnorm(epoch["model"].eval())
        found = {split: attacked(network, *pair, config.epsilon) for split, pair in shown.items()}
        records.append({"epoch": epoch["epoch"], "trained on": epoch["loss"], **found})
        print(records[-1], flush=True)
    text = "".join(json.dumps(record) + "\n" for record in records)
    (folder / "robust.jsonl").write_text(text, encoding="utf-8")
    return records


if __name__ == "__main__":
    for name in sys.argv[1:] or ("pgd", "fgsm"):
        watch(PLACE / name)
