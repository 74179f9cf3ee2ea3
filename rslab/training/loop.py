"""Training: one loop; the methods differ only in their loss (`losses`).

A step of the optimiser is one batch with all its m noisy copies (the published
SmoothAdv code makes m mini-batches of them, hence m steps).
"""

import json
import math
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from torch.optim.swa_utils import AveragedModel

from rslab.config import ATTACKING, NOISY, TrainConfig
from rslab.data.datasets import DATASETS, LabeledImages, beyond_the_cube, check_data, load_dataset
from rslab.data.imagenet import FolderImages, worker_count
from rslab.errors import InputError, WorkError, check_choice, check_kind, check_new_folder, check_path
from rslab.machine.devices import check_device, check_fits, choose_precision, device_name
from rslab.machine.distributed import agree, part_of, world
from rslab.machine.parallel import add_up, share_batch_norm, share_gradients, share_state
from rslab.machine.randomness import generator_for
from rslab.networks.inference import InPrecision, unwrapped
from rslab.networks.models import build_model
from rslab.store import files, run_folder
from rslab.training.losses import LOSSES, Step
from rslab.training.run import finish_run, has_epochs, open_run, save_state
from rslab.training.start import initial_model, training_set_of


def train(
    config: TrainConfig,
    out: Path | None = None,
    *,
    device: str = "cpu",
    resume: bool = False,
    data: LabeledImages | None = None,
) -> Iterator[dict]:
    """Train, and yield a record an epoch: epoch, loss, accuracy (both on what was trained), lr, epsilon, seconds …

    Bad input is refused at the call, before the first epoch is asked for. A record's `model` is the network
    after that epoch (the running average, where there is one), one object that changes with the next.

    With `out`, a run folder is written (`training.run`); with `resume` an interrupted run
    goes on after its last whole epoch and gives the same weights, bit for bit on
    one CPU, as if it had never stopped: all randomness of epoch e comes from a generator
    seeded by (seed, e). The records of the epochs before come first; of these only the last has a `model`,
    and of a finished run none: load it.
    `data` replaces the training split of `config.dataset`.

    Of several processes (`machine.parallel`) each trains on its part of every batch, and only the
    first writes.
    """
    check_kind("config", config, TrainConfig, "a TrainConfig")
    device = check_device(device)
    out = None if out is None else check_path("out", out, "the path of a run folder")
    config = replace(config, precision=choose_precision(config.precision, device))
    _check_before_loading(config, out, resume)
    data = load_dataset(config.dataset, "train") if data is None else check_data(data)
    if data.num_classes < 2:
        raise InputError(f"data: got {data.num_classes} class, expected 2 or more to tell apart.")
    _note_units(config, data.shape)
    # noise and noisy copies, of the images of one step
    check_fits("samples", config.samples, 4 * min(config.batch_size, len(data)) * math.prod(data.shape), device)
    # channels-last is the layout that convolutions run fastest in, on CPU and GPU alike
    model = initial_model(config, data).to(device).to(memory_format=torch.channels_last)
    model = share_batch_norm(model, device)
    optimizer, average = optimizer_for(config, model), running_average(config, model)
    training_set = tuple(tensor.to(device) for tensor in training_set_of(config, data, device))
    if (size := min(config.batch_size, len(training_set[1]))) < world().size:
        raise InputError(f"processes: got {world().size} for {size} images a step, expected at most one an image.")
    start, history, claim = 0, list[dict](), None
    if out is not None and world().first:
        start, history, claim = open_run(out, config, data, model, optimizer, average, resume)
    agree((config, data.checksum, torch.device(device).type))
    start = share_state(model, optimizer, average, start)
    epochs = _epochs(config, model, optimizer, average, training_set, start)
    if out is None or claim is None:
        return epochs
    return claim.during(_recorded_epochs(config, model, optimizer, average, epochs, out, start, history))


def optimizer_for(config: TrainConfig, model: nn.Module) -> torch.optim.Optimizer:
    """SGD with Nesterov momentum; `config.decayed` says whose weights decay."""
    parameters: list[dict] = [{"params": list(model.parameters()), "weight_decay": config.weight_decay}]
    if config.decayed == "matrices":
        # a batch norm follows and undoes the scale of a convolution, but nothing that of its own or of a bias
        vectors = [parameter for parameter in model.parameters() if parameter.ndim < 2]
        matrices = [parameter for parameter in model.parameters() if parameter.ndim >= 2]
        parameters = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": vectors, "weight_decay": 0}]
    return torch.optim.SGD(parameters, lr=config.lr, momentum=config.momentum, nesterov=config.momentum > 0)


def running_average(config: TrainConfig, model: nn.Module) -> AveragedModel | None:
    """The exponential average of weights and buffers, which follows more closely in the first steps; None: none."""
    if not config.average:
        return None

    @torch.no_grad()
    def add(averages, values, steps: Tensor | int) -> None:
        decay = min(config.average, float((1 + steps) / (10 + steps)))
        for average, value in zip(averages, values, strict=True):
            average.lerp_(value, 1 - decay) if average.is_floating_point() else average.copy_(value)

    return AveragedModel(model, multi_avg_fn=add, use_buffers=True)


def _note_units(config: TrainConfig, shape: tuple[int, ...]) -> None:
    for name, users, norm in (("sigma", NOISY, "l2"), ("epsilon", ATTACKING, config.norm)):
        note = beyond_the_cube(name, getattr(config, name), shape, norm) if config.method in users else None
        if note and world().first:
            print(note, file=sys.stderr)


def _check_before_loading(config: TrainConfig, out: Path | None, resume: bool) -> None:
    """What can be refused without the data set is refused before it is read, or downloaded."""
    with torch.random.fork_rng(devices=[]):  # the weights are thrown away
        build_model(config.arch, config.dataset, 2, normalization=config.normalization)
    if config.unlabelled not in (None, "hidden"):
        check_choice("unlabelled", config.unlabelled, ["hidden", *DATASETS])
    for run in filter(None, (config.pretrained, config.pseudo_labels)):
        run_folder.read_run(run)
    if out is not None:
        if not out.is_file():  # which `open_run` refuses, as it does a folder of other files
            check_new_folder("out", out)
        if has_epochs(out) and not resume:
            raise InputError(f"out: got {out}, which holds a run already, expected a new folder, or --resume.")


def _epochs(config, model, optimizer, average, training_set, start: int = 0) -> Iterator[dict]:
    network = share_gradients(model)
    for epoch in range(start, config.epochs):
        record = train_epoch(network, optimizer, average, training_set, config, epoch)
        if not record["loss"] < float("inf"):
            raise WorkError(
                f"loss: got {record['loss']} in epoch {epoch}, expected a finite number. "
                "A run folder keeps the state after the epoch before, and begins anew without one; a lower lr may help."
            )
        yield {**record, "model": average.module if average else model}


def _recorded_epochs(config, model, optimizer, average, epochs, out: Path, start: int, history) -> Iterator[dict]:
    kept = average.module if average else model
    if start >= config.epochs:  # it may have been stopped between the last epoch's state and the weights
        finish_run(out, kept, config.stored)
        yield from history
    elif history:
        yield from history[:-1]
        yield {**history[-1], "model": kept}
    for record in epochs:
        numbers = {name: value for name, value in record.items() if name != "model"}
        files.append_text(out / "train.jsonl", json.dumps(numbers) + "\n")
        save_state(out / "resume.safetensors", model, optimizer, average, record["epoch"])
        if record["epoch"] == config.epochs - 1:
            finish_run(out, kept, config.stored)
        yield record


def train_epoch(model, optimizer, average, training_set, config: TrainConfig, epoch: int) -> dict:
    """One pass over `training_set`, (images, labels, weight of each image's loss) on the model's device; its record."""
    began = time.perf_counter()
    images, labels, weights = training_set
    generator = generator_for("train", config.seed, epoch, labels.device)
    warmup = max(1, min(config.warmup, config.epochs))  # a run shorter than its warm-up reaches ε in its last epoch
    epsilon = config.epsilon * min(1.0, (epoch + 1) / warmup)
    step = Step(config, epsilon, generator)
    network = InPrecision(model.train(), config.precision)
    totals = torch.zeros(2, device=labels.device)
    batches = torch.randperm(len(labels), device=labels.device, generator=generator).split(config.batch_size)
    if len(batches) > 1 and len(batches[-1]) < max(2, world().size):
        batches = batches[:-1]  # batch norm cannot be trained on a single image, nor a process on none
    own_images = _own_images(images, batches, config, epoch, generator)
    for number, (batch, x) in enumerate(zip(batches, own_images, strict=True)):
        for group in optimizer.param_groups:
            progress = (epoch + (number + 0.5) / len(batches)) / config.epochs  # at the middle of the step
            group["lr"] = config.lr * _schedule(config, progress)
        weight, part = weights[batch], part_of(len(batch))
        y, step.part = labels[batch][part.slice], part
        loss, scores = LOSSES[config.method](network, x, y, step)
        total = weight.sum().clamp_min(1e-12)  # 0: a batch of pool images alone, of weight 0
        share = (loss * weight[part.slice]).sum() / total  # of the batch's mean loss
        optimizer.zero_grad(set_to_none=True)
        (share * world().size).backward()  # the processes' gradients are averaged, and should be added up
        optimizer.step()
        if average is not None:
            average.update_parameters(unwrapped(model))
        correct = (scores.argmax(1) == y).float().sum() / len(batch)
        totals += torch.stack((share.detach(), correct)) * len(batch)
    loss, accuracy = (add_up(totals) / sum(map(len, batches))).tolist()
    return {
        "epoch": epoch,
        "loss": loss,
        "accuracy": accuracy,
        "lr": optimizer.param_groups[0]["lr"],
        "epsilon": epsilon,
        "seconds": round(time.perf_counter() - began, 3),
        "device": device_name(str(images.device)),
    }


def _own_images(images, batches, config: TrainConfig, epoch: int, generator) -> Iterator[Tensor]:
    """Of each batch of indices the images of this process's part, augmented."""
    parts = [part_of(len(batch)).slice for batch in batches]
    if isinstance(images, FolderImages):
        own = [batch[part].tolist() for batch, part in zip(batches, parts, strict=True)]
        yield from images.batches(own, (config.seed, epoch) if config.augment else None, worker_count())
        return
    for batch, part in zip(batches, parts, strict=True):
        x = images[batch]
        yield (crop_and_flip(x, generator) if config.augment else x)[part]


def _schedule(config: TrainConfig, progress: float) -> float:
    """The share of the highest learning rate at `progress` in (0, 1) of the run: above 0 in every step."""
    if config.schedule == "step":
        return 0.1 ** int(progress * 3)
    return progress / config.rise if progress < config.rise else (1 - progress) / (1 - config.rise)


def crop_and_flip(x: Tensor, generator: torch.Generator, padding: int = 4) -> Tensor:
    """A random crop after zero padding and a random mirror image, for a whole batch on its device."""
    batch, _, height, width = x.shape

    def draw(high):
        return torch.randint(high, (batch, 1), device=x.device, generator=generator)

    rows = draw(2 * padding + 1) + torch.arange(height, device=x.device)  # (B, H)
    columns = draw(2 * padding + 1) + torch.arange(width, device=x.device)  # (B, W)
    columns = torch.where(draw(2) == 1, columns.flip(1), columns)
    image = torch.arange(batch, device=x.device)[:, None, None]
    padded = pad(x, (padding,) * 4)
    return padded[image, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)  # (B, H, W, C) → (B, C, H, W)


def train_to_end(config: TrainConfig, **options) -> nn.Module:
    """Train without a run folder and return the model, in eval mode: for notebooks and tests."""
    *_, last = train(config, **options)
    return last["model"].eval()
