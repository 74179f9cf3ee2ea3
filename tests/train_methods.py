"""Started by torchrun from test_distributed.py: train by several methods, rank 0 saves what came out."""

import sys
from pathlib import Path

import torch
from helpers import subset
from torch import nn

from rslab.config import TrainConfig
from rslab.data.datasets import load_dataset
from rslab.machine import distributed
from rslab.networks.models import ARCHITECTURES, small_cnn
from rslab.store import files
from rslab.training.loop import train


def smooth_cnn(num_classes: int, channels: int) -> nn.Sequential:
    """`small_cnn` without the kinks of ReLU, across which rounding could move an attack: gradients are continuous."""
    layers = (nn.Softplus() if isinstance(layer, nn.ReLU) else layer for layer in small_cnn(num_classes, channels))
    return nn.Sequential(*layers)


ARCHITECTURES["smooth-cnn"] = smooth_cnn

# Every way in which a loss draws randomness, goes through the network, or weighs images.
RUNS = {
    "gaussian": {"method": "gaussian", "samples": 2, "augment": True},
    "smoothadv": {"method": "smoothadv", "samples": 2, "steps": 2, "random_start": True},
    "combine1": {"method": "combine1", "steps": 1, "clean": 0.3},
    "combine3": {"method": "combine3", "samples": 2, "steps": 1, "random_start": True},
    "smoothmix": {"method": "smoothmix", "samples": 2, "steps": 1},
    "semi": {"method": "gaussian", "labels": 150, "unlabelled": "hidden", "pool_weight": 0.25},
}


def train_all(folder: Path, labeller: str) -> None:
    """Two epochs each on 210 images, in batches that no number of processes divides: FOLDER/NAME, {loss, weights}."""
    torch.set_num_threads(1)
    data = subset(load_dataset("digits", "train"), 210)
    for name, options in RUNS.items():
        if "unlabelled" in options:
            options = {**options, "pseudo_labels": labeller}
        *_, last = train(TrainConfig(arch="smooth-cnn", epochs=2, batch_size=67, seed=1, **options), data=data)
        if distributed.world().first:
            tensors = {**last["model"].state_dict(), "told": torch.tensor([last["loss"], last["accuracy"]])}
            files.save_weights(folder / name, tensors)


if __name__ == "__main__":
    with distributed.joined("train"):
        train_all(Path(sys.argv[1]), sys.argv[2])
