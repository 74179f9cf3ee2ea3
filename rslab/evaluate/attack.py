"""Attack a data set: reproducible, resumable, one log row an image."""

import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from datetime import timedelta
from pathlib import Path

import torch
from torch import Tensor, nn

from rslab import attacks
from rslab.data.datasets import LabeledImages, check_data
from rslab.errors import WorkError, check_kind, check_path
from rslab.evaluate.preparation import check_classes, fast_copy, note_softmax, note_units, provenance_of, settled
from rslab.evaluate.settings import AttackSettings, check_counts, chosen_indices
from rslab.machine.devices import check_device
from rslab.machine.randomness import generator_for
from rslab.smoothing.classifier import SmoothedClassifier, log_mean_probs, mean_log_probs
from rslab.smoothing.function import as_module, check_function, failures_in
from rslab.smoothing.sampling import on_grid
from rslab.store import logs
from rslab.store.shared_log import open_share


def attack_dataset(
    model: nn.Module,
    data: LabeledImages,
    settings: AttackSettings,
    log: Path,
    *,
    source: nn.Module | None = None,
    device: str = "cpu",
    resume: bool = False,
) -> Iterator[tuple]:
    """Attack each chosen image, let PREDICT judge the result, append a row; yields the rows.

    Columns: idx label predict basePredict correct time, of the attacked image.
    `source`: craft the attack on this model instead (transfer attack).

    Source: blog, empirical robust accuracy; robust-training blog, transfer attacks.
    """
    model = as_module(model)
    data = check_data(data)
    check_kind("settings", settings, AttackSettings, "AttackSettings")
    log, device = check_path("log", log, "the path of a log"), check_device(device)
    check_classes(model, data, device)
    note_units(data.shape, settings.norm, epsilon=settings.epsilon)
    note_units(data.shape, sigma=settings.sigma)
    check_counts(settings, device, data.num_classes)
    settings = settled(settings, data, device, log, resume)
    provenance = provenance_of(model, data, device)
    if source is not None:
        source = as_module(source)
        check_classes(source, data, device)
        theirs = provenance_of(source, data, device)
        provenance |= {"source_weights": theirs["weights"], "source_weights_normalization": theirs["normalization"]}
    network, precision = fast_copy(model, data, settings, device)
    check_function(network, data.images[0].to(device), data.num_classes)
    settings = replace(settings, precision=precision)
    attacked = network if source is None else fast_copy(source, data, settings, device)[0]
    chosen = chosen_indices(len(data), settings.skip, settings.max)
    if not settings.stein:
        _check_gradient(attacked, data.images[:1].to(device))
    share = open_share(log, logs.ATTACK_COLUMNS, asdict(settings) | provenance, chosen, resume)
    note_softmax(attacked, data, device)
    smoothed = None
    if settings.sigma > 0:
        smoothed = SmoothedClassifier(network, data.num_classes, settings.sigma, settings.batch_size, settings.sampler)
    return share.during(_attacked_rows(smoothed, network, attacked, data, settings, share, device))


def _attacked_rows(smoothed, network, attacked, data, settings: AttackSettings, share, device) -> Iterator[tuple]:
    size, flat = settings.batch or 1, 0
    for indices in (share.todo[start : start + size] for start in range(0, len(share.todo), size)):
        began = time.perf_counter()
        x, y = data.images[indices].to(device), data.labels[indices].to(device)
        generators = [generator_for("attack", settings.seed, index, device) for index in indices]
        flat_spots = torch.zeros(len(x), dtype=torch.int64, device=device)
        adversarial = attack_batch(attacked, x, y, settings, generators, flat_spots)
        flat += int((flat_spots > 0).sum())
        if settings.sampler == "grid":
            adversarial = on_grid(x, adversarial)
        with torch.no_grad():
            logits = network(adversarial)
            if bool(logits.isnan().any()):
                raise WorkError("The network gave NaN for an attacked image, which is no class: nothing is judged.")
            bases = logits.argmax(1).tolist()
        attacking = (time.perf_counter() - began) / len(indices)
        for index, image, label, base in zip(indices, adversarial, y.tolist(), bases, strict=True):
            began, predict = time.perf_counter(), base
            if smoothed is not None:
                generator = generator_for("predict", settings.seed, index, device)
                predict = smoothed.predict(image, settings.n, settings.alpha, generator=generator).prediction
            took = timedelta(seconds=attacking + time.perf_counter() - began)
            row = (index, label, predict, base, int(predict == label), took)
            share.append(row)
            yield row
    if flat:
        print(
            f"Note: the gradient vanished for {flat} of {len(share.todo)} images at some step: "
            + ("FGSM leaves them as they are." if settings.attack == "fgsm" else "a random direction was taken there."),
            file=sys.stderr,
        )


def attack_batch(
    model,
    x: Tensor,
    y: Tensor,
    settings: AttackSettings,
    generators: list[torch.Generator],
    flat_spots: Tensor | None = None,
) -> Tensor:
    """The attack that `settings` describe on images (B, C, H, W) with labels (B,), noise fixed for all steps.

    Each image has a generator of its own, so that what it suffers does not depend on its neighbours.
    """
    s = settings
    copies = 0 if s.objective == "base" else s.samples
    shape = (copies, 1, *x.shape[1:])
    noise = torch.cat([torch.randn(shape, device=x.device, generator=g) for g in generators], 1) * s.sigma
    log_probs = {
        "base": model,
        "naive": lambda z: mean_log_probs(model, z, noise),
        "smoothadv": lambda z: log_mean_probs(model, z, noise),
    }[s.objective]
    targeted = s.target is not None
    if s.target is not None:
        y = torch.full_like(y, s.target)
    of_pgd: dict = {"generator": generators}
    if s.stein:
        of_pgd["gradient"] = attacks.stein_gradients(model, noise, s.sigma)
    return s.chosen_attack()(log_probs, x, y, targeted=targeted, flat_spots=flat_spots, **of_pgd)


def _check_gradient(network: nn.Module, x: Tensor) -> None:
    """`InputError` where PyTorch cannot follow images through the network: what NumPy computes, say."""
    sentence = "model: got one that fails on {} where a gradient is asked for, expected one that PyTorch differentiates"
    with torch.enable_grad(), failures_in(f"{sentence}, or --stein, which takes values alone.", x):
        network(x.clone().requires_grad_())
