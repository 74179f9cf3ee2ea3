"""The model that is certified or attacked: a run folder's or a published checkpoint's."""

import sys
from pathlib import Path

import torch
from torch import nn

from rslab.config import NOISY
from rslab.data.datasets import DATASETS, LabeledImages, load_dataset
from rslab.errors import InputError, check_choice, check_file
from rslab.networks.models import NORMALIZATIONS
from rslab.smoothing.function import logits_of
from rslab.store import checkpoints, run_folder


def trained_sigma(target: Path) -> float | None:
    """σ of the training of a run folder, by its config.json alone; None of a run without noise or a checkpoint."""
    if not target.exists():
        raise InputError(f"RUN: got {target}, which does not exist, expected a run folder or a checkpoint.")
    if not target.is_dir():
        check_file(target, "a run folder or a checkpoint")
        return None
    config, _ = run_folder.read_run(target)
    return config.sigma if config.method in NOISY else None


def check_target(target: Path, dataset: str | None, normalization: str) -> None:
    """What can be refused of the options of `load_target` before anything is loaded."""
    check_choice("normalization", normalization, ("auto", *NORMALIZATIONS))
    if dataset is not None:
        check_choice("dataset", dataset, DATASETS)
    if target.is_dir() and normalization != "auto":
        raise InputError(
            f"normalization: got {normalization!r} with a run folder, whose config.json says which it has, "
            "expected 'auto'."
        )


def check_arch(arch: str | None, *runs: Path) -> None:
    """`InputError` for an `arch` of which none of the runs has a use: each says itself what network it is."""
    if arch is not None and not any(run.is_dir() and ":" in run_folder.read_run(run)[0].arch for run in runs):
        raise InputError(f"arch: got {arch!r} with {runs[0]}, which says what network it is, expected none.")


def load_target(target: Path, dataset: str | None, normalization: str, sigma: float | None, arch: str | None = None):
    """(model, test data, σ of training or None, run folder or None) of a run or a published checkpoint.

    A published checkpoint does not say which normalisation layer it was trained with. With
    "auto" both are tried on 200 noisy test images; the better one is taken, and said.
    """
    trained = trained_sigma(target)
    check_target(target, dataset, normalization)
    if target.is_dir():
        model, config = run_folder.load_run(target, arch=arch)
        return model, load_dataset(dataset or config.dataset, "test"), trained, target
    tried = NORMALIZATIONS if normalization == "auto" else (normalization,)
    models, refused = {}, None
    for name in tried:
        try:
            models[name] = checkpoints.import_checkpoint(target, normalization=name)
        except InputError as error:  # its first layer may be the other one's
            refused = error
    if refused and not models:
        raise refused
    data = load_dataset(dataset or next(iter(models.values()))[1], "test")
    if len(models) == 1:
        return next(iter(models.values()))[0], data, None, None
    accuracy = {name: _noisy_accuracy(model, data, sigma or 0.0) for name, (model, _) in models.items()}
    best = max(accuracy, key=lambda name: accuracy[name])
    found = ", ".join(f"{name} {value:.1%}" for name, value in accuracy.items())
    print(f"Normalization {best}: accuracy on 200 noisy test images is {found}.", file=sys.stderr)
    return models[best][0], data, None, None


@torch.no_grad()
def _noisy_accuracy(model: nn.Module, data: LabeledImages, sigma: float) -> float:
    x, y = data.images[:200], data.labels[:200]
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0)) * sigma
    logits = logits_of(model, x + noise)
    return float(((logits.argmax(1) == y) & ~logits.isnan().any(1)).float().mean())
