"""Dropping the hard training images: does ACR rise while fewer images are classified correctly?

After arXiv 2410.06895, in small: Gaussian training on the digits at σ = 0.5; then once more, from the same seed and
with as many steps, without the images of which the first network gets fewer than 70 % of noisy copies right. Both are
certified on the 500 test digits. (With thresholds of 50 % and 90 % ACR did not rise in a pilot of two seeds.)

`python -m rslab.experiments.hard_images` writes the six logs of `results/hard-images`, skips what is there and needs
about a minute a log on one core.
"""

import sys
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from rslab.config import TrainConfig
from rslab.data.datasets import LabeledImages, load_dataset
from rslab.errors import InputError, WorkError
from rslab.evaluate.certify import certify_dataset
from rslab.evaluate.settings import CertifySettings
from rslab.networks.inference import fold_batchnorm
from rslab.store.run_folder import RESULTS
from rslab.training.loop import train_to_end

PLACE = RESULTS / "hard-images"
SEEDS, SIGMA, EPOCHS, EASY, COPIES = (0, 1, 2), 0.5, 30, 0.7, 200


def share_of_copies_right(network: nn.Module, data: LabeledImages, sigma: float, seed: int) -> Tensor:
    """Of `COPIES` noisy copies of each image the share that gets its label: (N,)."""
    generator = torch.Generator().manual_seed(seed)
    right = torch.zeros(len(data))
    with torch.no_grad():
        for _ in range(COPIES):
            noise = sigma * torch.randn(data.images.shape, generator=generator)
            right += network(data.images + noise).argmax(1) == data.labels
    return right / COPIES


def subset(data: LabeledImages, keep: Tensor) -> LabeledImages:
    """The images where `keep` (N,) is true."""
    return replace(data, images=data.images[keep], labels=data.labels[keep])


def certify(network: nn.Module, log: Path, seed: int) -> None:
    """The log of `network` on the test digits."""
    settings = CertifySettings(sigma=SIGMA, n=10_000, seed=seed, precision="float32")
    for _ in certify_dataset(network, load_dataset("digits", "test"), settings, log):
        pass


def study(seed: int) -> None:
    """Train with and without the hard images, and certify both."""
    digits = load_dataset("digits", "train")
    config = TrainConfig(dataset="digits", arch="cnn", method="gaussian", sigma=SIGMA, epochs=EPOCHS,
                         batch_size=64, seed=seed)  # fmt: skip
    first = fold_batchnorm(train_to_end(config, data=digits))
    easy = share_of_copies_right(first, digits, SIGMA, seed) >= EASY
    print(f"seed {seed}: {int(easy.sum())} of {len(digits)} training images stay", flush=True)
    longer = replace(config, epochs=round(EPOCHS * len(digits) / int(easy.sum())))  # as many steps
    if not (log := PLACE / f"all-{seed}.tsv").is_file():
        certify(first, log, seed)
    if not (log := PLACE / f"easy-{seed}.tsv").is_file():
        certify(train_to_end(longer, data=subset(digits, easy)), log, seed)


if __name__ == "__main__":
    torch.set_num_threads(1)
    try:
        for number in SEEDS:
            study(number)
    except (InputError, WorkError) as error:
        sys.exit(f"hard_images: {error}")
