"""What certification and attack make ready, check and note before the first row."""

import hashlib
import math
import sys
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from rslab.config import PRECISIONS, Precision
from rslab.data.datasets import LabeledImages, beyond_the_cube
from rslab.errors import InputError
from rslab.evaluate.settings import AttackSettings, CertifySettings, chosen_indices
from rslab.machine.devices import check_fits, choose_precision
from rslab.networks.inference import InferenceNetwork
from rslab.networks.models import Normalize, check_channels
from rslab.smoothing.classifier import default_batch_size
from rslab.smoothing.function import failures_in, logits_of
from rslab.smoothing.sampling import noisy_copies, whole_steps
from rslab.store import files, logs


def plain_number(count: float) -> int | float:
    """A count as a log shows it: 12, not 12.0."""
    return int(count) if float(count).is_integer() else float(count)


def settled(settings, data: LabeledImages, device: str, log: Path, resume: bool):
    """The settings with what was left open decided: as the log began that is resumed, or else by the device."""
    if resume and (beside := logs.settings_path(Path(log))).exists():
        begun = files.read_json(beside)
        if settings.batch_size is None and isinstance(begun.get("batch_size"), int):
            settings = replace(settings, batch_size=begun["batch_size"])
        if settings.precision == "auto" and begun.get("precision") in PRECISIONS:
            settings = replace(settings, precision=begun["precision"])
    if settings.sampler == "grid":  # refused here and not at some later image
        chosen = chosen_indices(len(data), settings.skip, settings.max)
        for part in chosen if isinstance(data.images, Tensor) else chosen[:1]:  # files hold 8-bit levels
            whole_steps(data.images[part])
        noisy_copies(settings.sampler, data.images[0], settings.sigma)
    size = settings.batch_size or default_batch_size(data.shape, torch.device(device).type)
    settings = replace(settings, batch_size=size, precision=choose_precision(settings.precision, device))
    pixels = 4 * math.prod(data.shape)  # bytes of an image
    if isinstance(settings, AttackSettings):
        check_fits("samples", settings.samples, pixels, device)
    votes = max(settings.n, settings.n0) if isinstance(settings, CertifySettings) else settings.n
    check_fits("batch_size", size if getattr(settings, "compile", False) else min(size, votes), pixels, device)
    if isinstance(settings, AttackSettings):
        return replace(
            settings, batch=settings.batch or max(1, size // (1 if settings.objective == "base" else settings.samples))
        )
    return settings


def check_classes(model: nn.Module, data: LabeledImages, device: str) -> None:
    """The model, which moves to `device`, must take the images of `data` and give one logit a class."""
    model, image = model.to(device), data.images[:1].to(device)
    check_channels(model, image)
    sentence = f"model: got a network that does not take {data.name} images of shape {data.shape}: it fails on {{}}."
    with torch.no_grad(), failures_in(sentence, image):
        logits = logits_of(model, image)
    if logits.shape != (1, data.num_classes):
        got = logits.shape[-1] if logits.dim() == 2 else f"logits of shape {tuple(logits.shape)} for one image, not"
        raise InputError(f"model: got {got} classes, expected the {data.num_classes} classes of {data.name}.")


def noisy_batch(data: LabeledImages, size: int, sigma: float, device: str) -> Tensor:
    """`size` noisy copies of the first image: (size, C, H, W)."""
    noise = torch.randn(size, *data.shape, generator=torch.Generator().manual_seed(0))
    return (data.images[:1] + sigma * noise).to(device)


def fast_copy(model: nn.Module, data: LabeledImages, settings, device: str) -> tuple[nn.Module, Precision]:
    """A fast network, compared with `model` on a batch, and the precision that it computes in."""
    network = InferenceNetwork(model, settings.precision)
    with torch.no_grad():
        network(noisy_batch(data, 8, settings.sigma, device))
    return network, "bfloat16" if network.dtype == torch.bfloat16 else "float32"


def note_units(shape: tuple[int, ...], norm: str = "l2", **distances: float) -> None:
    """Say so where σ or ε, by name, is longer than the cube of images is wide."""
    for name, value in distances.items():
        if note := beyond_the_cube(name, value, shape, norm):
            print(note, file=sys.stderr)


def note_softmax(network: nn.Module, data: LabeledImages, device: str) -> None:
    """Say so where the outputs are probabilities already: soft votes and losses would take the softmax of them."""
    with torch.no_grad():
        logits = network(data.images[:4].to(device))
    if bool((logits >= 0).all()) and bool((logits.sum(1) - 1).abs().max() < 1e-3):
        print(
            "Note: the model's outputs look like probabilities (a softmax at its end), where logits are expected: "
            "soft votes, losses and margins come out too flat.",
            file=sys.stderr,
        )


def provenance_of(model: nn.Module, data: LabeledImages, device: str) -> dict:
    """What of model, data and device stands in the settings of a log: digests by which a resume knows them again."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode() + _bytes(tensor))
    normalize = [layer for layer in model.modules() if isinstance(layer, Normalize)]  # not in the state dict
    return {
        "normalization": [[values.flatten().tolist() for values in (n.mean, n.std)] for n in normalize],
        "dataset": data.name,
        "data_checksum": data.checksum,
        "weights": digest.hexdigest(),
        "device": torch.device(device).type,
    }


def _bytes(value) -> bytes:
    """What an entry of a state dict is made of: numbers, also of a quantised one; other things by their text."""
    if isinstance(value, tuple | list):
        return b"".join(map(_bytes, value))
    if not isinstance(value, Tensor):
        return repr(value).encode()
    if value.is_quantized:
        value = value.dequantize()
    if value.layout != torch.strided:
        value = value.to_dense()
    return value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
