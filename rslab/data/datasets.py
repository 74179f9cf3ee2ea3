"""Images in [0, 1] with labels: embedded digits, MNIST (also at 8×8), CIFAR-10 (also for choosing recipes), ImageNet.

Digits come with scikit-learn: real, offline, the default. MNIST and CIFAR-10 are
read by torchvision from the folder that RSLAB_DATA names (default
~/.cache/rslab), checked by MD5, and downloaded only when they are not there.
"""

import hashlib
import math
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rslab.data.imagenet import FolderImages, read_folder
from rslab.errors import InputError, WorkError, check_choice, check_kind
from rslab.smoothing.images import check_images, check_labels

SPLITS = ("train", "test")


PATIENCE = 7.0  # seconds without a new byte on the disk, after which a download is given up


# MD5 of MNIST's unpacked files; torchvision itself checks only the archives.
MNIST_FILES = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}


PLACES = {  # what belongs where below data_root(), for those who fetch it themselves
    "mnist": f"MNIST/raw: {', '.join(MNIST_FILES)}, unpacked",
    "mnist8": "MNIST/raw: the files of mnist",
    "cifar10": "cifar-10-batches-py: data_batch_1 … data_batch_5, test_batch, batches.meta of cifar-10-python.tar.gz",
    "cifar10-heldout": "cifar-10-batches-py: the files of cifar10",
    "imagenet": "imagenet: train/CLASS/*.JPEG and val/CLASS/*.JPEG, a folder a class; never downloaded",
}


@dataclass(frozen=True)
class LabeledImages:
    """A data set, held in memory but for ImageNet.

    images: float32 `(N, C, H, W)` in [0, 1]; labels: int64 `(N,)`;
    classes: the K class names; checksum: SHA-256 of images and labels.

    ImageNet's images are `imagenet.FolderImages`: they have a tensor's length, shape, indices of
    the first dimension and `to`, and are read from disk when indexed. Nothing else of a tensor.
    """

    name: str
    images: Any  # Tensor | FolderImages
    labels: Tensor
    classes: tuple[str, ...]
    checksum: str

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def num_classes(self) -> int:
        """K, the number of class names."""
        return len(self.classes)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        _, channels, height, width = self.images.shape
        return channels, height, width

    def to(self, device) -> "LabeledImages":
        """The same images and labels on another device."""
        return LabeledImages(self.name, self.images.to(device), self.labels.to(device), self.classes, self.checksum)


def data_root() -> Path:
    """The folder of MNIST, CIFAR-10 and ImageNet: $RSLAB_DATA, else ~/.cache/rslab."""
    return Path(os.environ.get("RSLAB_DATA") or "~/.cache/rslab").expanduser()


def load_dataset(name: str, split: str, *, download: bool = True) -> LabeledImages:
    """The `train` or `test` split of `digits`, `mnist`, `mnist8`, `cifar10`, `cifar10-heldout` or `imagenet`.

    Raises `InputError` for an unknown name or split, `WorkError` when the files
    are neither in `data_root()` nor to be downloaded.
    """
    check_choice("dataset", name, DATASETS)
    check_choice("split", split, SPLITS)
    pixels, labels, classes = DATASETS[name](split, download)
    if isinstance(pixels, FolderImages):
        return LabeledImages(name, pixels, labels, tuple(classes), pixels.checksum)
    digest = hashlib.sha256(pixels.contiguous().numpy())
    digest.update(labels.contiguous().numpy())
    images = pixels.float().div_(255) if pixels.dtype == torch.uint8 else pixels
    return LabeledImages(name, images, labels, tuple(classes), digest.hexdigest())


def _digits(split: str, download: bool):
    """1,797 handwritten digits of 8×8 pixels: 1,297 to train, 500 to test, stratified."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    raw = load_digits()
    parts = train_test_split(raw.images, raw.target, test_size=500, random_state=0, stratify=raw.target)
    which = SPLITS.index(split)
    images = torch.tensor(parts[which] / 16, dtype=torch.float32)[:, None]  # 16 grey levels → [0, 1]
    return images, torch.tensor(parts[2 + which]), [str(name) for name in raw.target_names]


def _mnist(split: str, download: bool):
    from torchvision.datasets import MNIST
    from torchvision.datasets.utils import check_integrity

    folder = data_root() / "MNIST" / "raw"

    def wrong() -> list[str]:
        return [file for file, md5 in MNIST_FILES.items() if not check_integrity(str(folder / file), md5)]

    def read():
        if names := wrong():
            raise RuntimeError(f"{', '.join(names)} absent or with a wrong MD5")
        raw = MNIST(data_root(), train=split == "train")
        return raw.data[:, None], raw.targets, [str(digit) for digit in range(10)]

    def fetch():
        for name in wrong():  # torchvision would take a damaged file for a present one
            (folder / name).unlink(missing_ok=True)
        MNIST(data_root(), download=True)

    return _present_or_downloaded("MNIST", read, fetch, download)


def _mnist8(split: str, download: bool):
    """MNIST at the size of the digits, to pre-train for them: means over the middle 20×20 pixels, its frame."""
    pixels, labels, classes = _mnist(split, download)
    means = torch.nn.functional.adaptive_avg_pool2d(pixels[:, :, 4:24, 4:24].float(), 8)
    return means.div_(255), labels, classes


def _cifar10(split: str, download: bool):
    from torchvision.datasets import CIFAR10

    def read():
        try:
            raw = CIFAR10(data_root(), train=split == "train")  # checks the MD5 of every batch
        except RuntimeError as error:
            raise RuntimeError("a file is absent or has a wrong MD5") from error  # not torchvision's advice
        pixels = torch.from_numpy(raw.data).permute(0, 3, 1, 2)  # (N, H, W, C) → (N, C, H, W)
        return pixels.contiguous(), torch.tensor(raw.targets), raw.classes

    return _present_or_downloaded("CIFAR-10", read, lambda: CIFAR10(data_root(), download=True), download)


def _cifar10_heldout(split: str, download: bool):
    """To choose a recipe without a look at the test images: 45,000 training images, tested on the 5,000 others."""
    pixels, labels, classes = _cifar10("train", download)  # whose order is random
    own = slice(45_000) if split == "train" else slice(45_000, None)
    return pixels[own], labels[own], classes


def _present_or_downloaded(name: str, read: Callable, fetch: Callable, download: bool):
    """read(), after fetch() if the files are absent or damaged. `name`: of the data set, as its authors write it."""
    try:
        return read()
    except (RuntimeError, OSError) as absent:
        reason, tried = absent, ""
    if download:
        try:
            _patiently(fetch)  # torchvision draws the progress bar
            return read()
        except (RuntimeError, OSError) as failed:
            reason, tried = failed, " and could not be downloaded"
    cause = " ".join(str(reason).split())[:200]  # torchvision writes a page
    command = name.lower().replace("-", "")
    raise WorkError(
        f"{name} is not in {data_root()}{tried} ({cause}): "
        f"`rslab data {command}` shows where its files belong, below the folder that RSLAB_DATA names."
    )


def _patiently(fetch: Callable) -> None:
    """fetch(), for as long as it brings something: a slow network may take hours, a silent one `PATIENCE` seconds.

    urllib waits for ever by itself, or for the timeout of each try of many; hence a thread, which is left behind.
    """
    failed: list[BaseException] = []

    def work():
        try:
            fetch()
        except BaseException as error:  # carried over to the caller's thread
            failed.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    brought, since = _bytes_on_disk(), time.monotonic()
    while thread.is_alive():
        thread.join(0.2)
        if (now := _bytes_on_disk()) != brought:
            brought, since = now, time.monotonic()
        elif time.monotonic() - since > PATIENCE and thread.is_alive():
            raise WorkError(f"nothing came for {PATIENCE:g} seconds")
    if failed:
        raise failed[0]


def _bytes_on_disk() -> int:
    """What lies in `data_root()` and in the folders of what is downloaded."""
    total = 0
    for folder in (".", "MNIST/raw", "cifar-10-batches-py"):
        # closed also where a file goes while it is looked at: the download renames its own
        with suppress(OSError), os.scandir(data_root() / folder) as entries:
            total += sum(entry.stat().st_size for entry in entries if entry.is_file())
    return total


def _imagenet(split: str, download: bool):
    """The folder imagenet/ with train/CLASS/*.JPEG and val/CLASS/*.JPEG; not for download."""
    return read_folder(data_root() / "imagenet", split)


DATASETS: dict[str, Callable] = {
    "digits": _digits,
    "mnist": _mnist,
    "mnist8": _mnist8,
    "cifar10": _cifar10,
    "cifar10-heldout": _cifar10_heldout,
    "imagenet": _imagenet,
}


def check_data(data: LabeledImages) -> LabeledImages:
    """A caller's data set with images float32 in [0, 1], at least one, and labels int64 of its classes; else refused.

    Arrays and float64 are taken. Images of a folder are checked as they are read.
    """
    check_kind("data", data, LabeledImages, "LabeledImages, as load_dataset gives them")
    images = data.images
    if not len(images):
        raise InputError("data: got no image, expected 1 or more.")
    if not isinstance(images, FolderImages):
        images = torch.from_numpy(images) if isinstance(images, np.ndarray) else images
        images = check_images(images, name="data").detach().float()
    return replace(data, images=images, labels=check_labels(data.labels, data.num_classes, len(images)))


def beyond_the_cube(name: str, value: float, shape: tuple[int, ...], norm: str = "l2") -> str | None:
    """A sentence where a distance is longer than the cube [0, 1]^d of images of `shape` is wide; else None."""
    width = math.prod(shape) ** 0.5 if norm == "l2" else 1.0
    if value <= width:
        return None
    return f"Note: {name} = {value:g}, but images in [0, 1] lie within {width:.3g} of each other."
