"""Where a run starts: its weights and its training set."""

from pathlib import Path

import torch
from torch import Tensor, nn

from rslab.config import TrainConfig
from rslab.data.datasets import DATASETS, LabeledImages, load_dataset
from rslab.data.imagenet import FolderImages
from rslab.errors import InputError, WorkError, check_choice
from rslab.networks.models import build_model, check_channels
from rslab.smoothing.function import failures_in, logits_of
from rslab.smoothing.images import check_images
from rslab.store import run_folder


def initial_model(config: TrainConfig, data: LabeledImages) -> nn.Module:
    """Fresh weights from the seed, or those of `pretrained`, with a fresh head where the classes differ."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = build_model(config.arch, config.dataset, data.num_classes, normalization=config.normalization)
    check_channels(model, data.images[:1])
    if ":" in config.arch:
        _check_network(model, data, config.arch)
    if config.pretrained is None:
        return model
    source, source_config = run_folder.load_run(config.pretrained, arch=config.arch)
    if source_config.arch != config.arch:
        raise InputError(f"pretrained: got a run of arch {source_config.arch!r}, expected {config.arch!r}.")
    ours, theirs = model.state_dict(), source.state_dict()
    different = {name for name in ours if ours[name].shape != theirs[name].shape}
    head = list(ours)[-2:]  # weight and bias of the last layer
    if not different <= set(head):
        name = min(different - set(head))
        shapes = f"{tuple(theirs[name].shape)}, expected {tuple(ours[name].shape)}"
        raise InputError(f"pretrained: got {name!r} of shape {shapes}: only the head may differ.")
    model.load_state_dict({name: ours[name] if name in different else theirs[name] for name in ours})
    return model


@torch.no_grad()
def _check_network(model: nn.Module, data: LabeledImages, arch: str) -> None:
    """`InputError` unless a network of the caller's takes the images and gives one logit a class."""
    image = data.images[:1]
    with failures_in(f"arch: got {arch!r}, which fails on {{}}.", image):
        logits = logits_of(model, image)
    if logits.shape != (1, data.num_classes):
        got = f"logits of shape {tuple(logits.shape)} for one image"
        raise InputError(f"arch: got {arch!r}, which gives {got}, expected (1, {data.num_classes}).")


def training_set_of(config: TrainConfig, data: LabeledImages, device: str) -> tuple[Tensor, Tensor, Tensor]:
    """(images, labels, weight of each image's loss): the labelled images, then the pseudo-labelled pool."""
    images, labels = data.images, data.labels
    if isinstance(images, FolderImages) and (config.labels or config.unlabelled):
        raise InputError(f"labels: got labels or unlabelled with {data.name}, expected neither: it stays on disk.")
    if config.labels is not None:
        if config.labels > len(data):
            raise InputError(f"labels: got {config.labels}, expected at most the {len(data)} training images.")
        order = torch.randperm(len(data), generator=torch.Generator().manual_seed(config.seed))
        shown, hidden = order[: config.labels], order[config.labels :]
        images, labels = data.images[shown], data.labels[shown]
    if config.unlabelled is None or config.pseudo_labels is None:  # the configuration allows both or none
        return images, labels, torch.ones(len(labels))
    if config.unlabelled == "hidden":
        pool = data.images[hidden]
        if not len(pool):
            raise InputError(f"unlabelled: got hidden with all {len(data)} images labelled, expected fewer labels.")
    else:
        check_choice("unlabelled", config.unlabelled, ["hidden", *DATASETS])
        pool = load_dataset(config.unlabelled, "train").images
        if isinstance(pool, FolderImages):
            raise InputError(f"unlabelled: got {config.unlabelled}, expected a set that is held in memory.")
    if pool.shape[1:] != images.shape[1:]:
        got, expected = tuple(pool.shape[1:]), tuple(images.shape[1:])
        raise InputError(f"unlabelled: got images of shape {got}, expected {expected} as in {config.dataset}.")
    pseudo = pseudo_labels(config.pseudo_labels, pool, data.num_classes, device, config.arch)
    weights = torch.cat((torch.ones(len(labels)), torch.full((len(pool),), float(config.pool_weight))))
    return torch.cat((images, pool)), torch.cat((labels, pseudo)), weights


@torch.no_grad()
def pseudo_labels(
    run: str | Path, pool: Tensor, num_classes: int, device: str = "cpu", arch: str | None = None
) -> Tensor:
    """argmax f(x) for every image of the pool (N, C, H, W), by the model of a run folder: (N,) int64."""
    model, _ = run_folder.load_run(run, arch=arch)
    check_channels(model, check_images(pool, name="pool"))
    if (classes := model(pool[:1]).shape[1]) != num_classes:
        raise InputError(f"pseudo_labels: got a run of {classes} classes, expected {num_classes}.")
    logits = torch.cat([model.to(device)(batch.to(device)).cpu() for batch in pool.split(1000)])
    if bool(logits.isnan().any()):
        raise WorkError(f"pseudo_labels: the network of {run} gave NaN for an image, which is no class.")
    return logits.argmax(1)
