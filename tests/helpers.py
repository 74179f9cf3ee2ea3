"""Small data with seeds of their own, for every test module."""

import os
from pathlib import Path

import pytest
import torch
from torch import nn

from rslab.config import TrainConfig
from rslab.data.datasets import LabeledImages


def subset(data: LabeledImages, size: int) -> LabeledImages:
    """The first `size` images; the checksum says so."""
    return LabeledImages(data.name, data.images[:size], data.labels[:size], data.classes, f"{data.checksum}-{size}")


def seeded(seed: int = 0) -> torch.Generator:
    """A generator of random numbers of its own."""
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    """Standard normal numbers."""
    return torch.randn(*shape, generator=seeded(seed))


def uniform(*shape: int, seed: int = 0) -> torch.Tensor:
    """Numbers in [0, 1), as pixels are."""
    return torch.rand(*shape, generator=seeded(seed))


def symlink(link: Path, target: Path | str) -> None:
    """A symbolic link; the test is skipped where the account may make none, as on Windows."""
    try:
        link.symlink_to(target)
    except (OSError, NotImplementedError) as error:
        pytest.skip(f"no symbolic links here: {error}")


def training_options(**options) -> TrainConfig:
    """The configuration of these options, less those that its method does not use: for one set of many methods."""
    return TrainConfig(**{name: options[name] for name in options.keys() - TrainConfig.without_use(options)})


class Always(nn.Module):
    """What a function of a tensor does, in any mode."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class Recorder:
    """A base classifier that keeps every noisy image it was given, and always answers the same."""

    def __init__(self, answer: int = 0, num_classes: int = 3):
        self.answer, self.num_classes, self.seen = answer, num_classes, []

    def __call__(self, x):
        self.seen.append(x.clone())
        logits = torch.zeros(len(x), self.num_classes)
        logits[:, self.answer] = 1.0
        return logits


def without_posix(folder: Path, modules: str, of_os: str, of_signal: str, first: str = "") -> str:
    """Take away what POSIX alone has, before anything is imported, by a `sitecustomize.py`; returns the PYTHONPATH.

    Every process of a test finds it there: so it holds for the children that our code starts, too.
    """
    lines = [
        "import os, signal, sys",
        first,
        f"sys.modules.update(dict.fromkeys({modules.split()}))",
        f"for place, names in ((os, {of_os.split()}), (signal, {of_signal.split()})):",
        "    for name in names:",
        "        if hasattr(place, name):",
        "            delattr(place, name)",
    ]
    (folder / "sitecustomize.py").write_text("\n".join(lines), encoding="utf-8")
    return os.pathsep.join((str(folder), str(Path(__file__).resolve().parent.parent)))
