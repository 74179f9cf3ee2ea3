"""ImageNet, or any folder in its layout: FOLDER/train/CLASS/*.JPEG and FOLDER/val/CLASS/*.JPEG.

1.3 million photographs do not fit into memory: `FolderImages` is indexed like the tensor of a
smaller data set and reads from disk what is asked for; training reads ahead in worker processes.

The files may come from anywhere: a symlink, a file that is no JPEG or PNG, and an image made to
fill the memory are refused in one sentence that names the file.
"""

import hashlib
import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import sqrt
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from rslab.errors import InputError, WorkError

SIZE, RESIZED = 224, 256  # pixels of a side: of an image, and of a photograph's shorter one before the crop
FOLDERS = {"train": "train", "test": "val"}
ENDINGS = (".jpeg", ".jpg", ".png")
MAX_PIXELS = 89_478_485  # Pillow's own limit: a quarter of a gigabyte in RGB


@dataclass(frozen=True)
class FolderImages:
    """The images of a folder, read when indexed.

    A number gives (3, 224, 224); a slice, a list or a tensor of numbers (N, 3, 224, 224): float32
    in [0, 1] on `device`. `checksum` is the SHA-256 of all names and sizes, not of all contents.
    Reading raises `InputError` for a file that is no image or too large.
    """

    folder: Path
    names: np.ndarray  # bytes, relative to `folder`: no million Python strings
    checksum: str
    device: str = "cpu"

    def __len__(self) -> int:
        return len(self.names)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(N, C, H, W), as of a tensor."""
        return len(self), 3, SIZE, SIZE

    def to(self, device) -> "FolderImages":
        """The same images, to be read onto another device."""
        return replace(self, device=str(device))

    def __getitem__(self, index) -> Tensor:
        if isinstance(index, int):
            return self._read(index, None).to(self.device)
        numbers = range(len(self))[index] if isinstance(index, slice) else torch.as_tensor(index).tolist()
        if not len(numbers):
            return torch.zeros(0, *self.shape[1:], device=self.device)
        return torch.stack([self._read(number, None) for number in numbers]).to(self.device)

    def batches(self, numbers: Sequence[list[int]], crops: tuple[int, int] | None, workers: int) -> Iterator[Tensor]:
        """A tensor (b, 3, 224, 224) for each list of b numbers, read ahead by `workers` processes.

        `crops` (seed, epoch) asks for a random crop and mirror image, drawn for each image from (seed,
        epoch, number): the same whatever the batches and the processes. Raises `InputError` as reading
        does, `WorkError` when a worker dies.
        """
        cuda = self.device.startswith("cuda")
        loader: DataLoader = DataLoader(
            _Files(self, crops),
            batch_sampler=numbers,
            num_workers=workers,
            collate_fn=_collate,
            pin_memory=cuda,
            generator=torch.Generator(),  # or the loader would draw from the global one
        )
        try:
            for batch in loader:
                if isinstance(batch, InputError):
                    raise batch
                yield batch.to(self.device, non_blocking=cuda)
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            raise WorkError(f"{self.folder}: a process that reads images died, perhaps for want of memory.") from error

    def _read(self, number: int, crops: tuple[int, int] | None) -> Tensor:
        path = self.folder / os.fsdecode(self.names[number])
        image = _opened(path)
        if crops is None:
            image = _centre(image)
        else:
            image = random_crop_and_flip(image, np.random.default_rng((*crops, number)))
        pixels = torch.from_numpy(np.array(image))  # (H, W, C), bytes
        return pixels.permute(2, 0, 1).float().div_(255)  # (C, H, W)


@dataclass(frozen=True)
class _Files(Dataset):
    """What the loader's workers index. An error is handed over as a value: raised there, it would come as a page."""

    images: FolderImages
    crops: tuple[int, int] | None

    def __getitem__(self, number: int) -> Tensor | InputError:
        try:
            return self.images._read(number, self.crops)
        except InputError as error:
            return error


def _collate(items: list) -> Tensor | InputError:
    return next((item for item in items if isinstance(item, InputError)), None) or torch.stack(items)


def worker_count() -> int:
    """Processes that read images for one process that trains: this machine's processors shared out, 1 to 8."""
    trainers = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(8, max(1, processors // trainers))


# -- one photograph ------------------------------------------------------------------------


def _opened(path: Path) -> Image.Image:
    too_large = InputError(f"{path}: got an image that would fill the memory, expected at most {MAX_PIXELS} pixels.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=("JPEG", "PNG")) as image:
                short, long = sorted(image.size)
                if short * long > MAX_PIXELS or RESIZED**2 * long > MAX_PIXELS * short:  # a line grows when resized
                    raise too_large
                return image.convert("RGB")
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise too_large from error
    except InputError:
        raise
    except Exception as error:  # Pillow raises a dozen kinds on a broken file
        raise InputError(f"{path}: got a file that is absent, broken or no image, expected a JPEG or PNG.") from error


def _centre(image: Image.Image) -> Image.Image:
    """The shorter side to 256 pixels, then the middle 224 × 224: how ImageNet's classifiers are tested."""
    width, height = image.size
    short = min(image.size)
    resized = RESIZED * width // short, RESIZED * height // short
    left, top = (round((side - SIZE) / 2) for side in resized)
    return image.resize(resized, Image.Resampling.BILINEAR).crop((left, top, left + SIZE, top + SIZE))


def random_crop_and_flip(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """A part of 8 to 100 % of the photograph, 3:4 to 4:3, resized to 224 × 224, and mirrored half of the times.

    Szegedy et al. 2015, section 6, as it is usually done: ten tries, then the middle square.
    """
    width, height = image.size
    w = h = min(width, height)
    left, top = (width - w) // 2, (height - h) // 2
    for _ in range(10):
        area = width * height * rng.uniform(0.08, 1.0)
        ratio = np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3)))
        tried = round(sqrt(area * ratio)), round(sqrt(area / ratio))
        if 0 < tried[0] <= width and 0 < tried[1] <= height:
            w, h = tried
            left, top = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
            break
    image = image.resize((SIZE, SIZE), Image.Resampling.BILINEAR, box=(left, top, left + w, top + h))
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.integers(2) else image


# -- a folder of them ----------------------------------------------------------------------


def read_folder(root: Path, split: str) -> tuple[FolderImages, Tensor, list[str]]:
    """(images, labels (N,) int64, class names) of the split "train" or "test" (`val`) of an image folder.

    Classes are the names of the folders, in order (whole numbers as numbers: 2 before 10), as are the images within
    each: the index of an image is the field's. Raises `WorkError` if the split is not there, `InputError` for what does
    not belong there.
    """
    folder = root / FOLDERS[split]
    if not folder.is_dir():
        raise WorkError(
            f"imagenet is not in {root}: expected {FOLDERS[split]}/CLASS/*.JPEG there, "
            "below the folder that RSLAB_DATA names; it is not downloaded."
        )
    classes = _classes(folder)
    other = root / FOLDERS["test" if split == "train" else "train"]
    if other.is_dir() and (odd := set(classes) ^ set(_classes(other))):
        raise InputError(f"{root}: got the class {min(odd)!r} in one of train and val, expected the same in both.")
    names: list[bytes] = []
    labels: list[int] = []
    digest = hashlib.sha256()
    for label, name in enumerate(classes):
        files = [entry for entry in _entries(folder / name) if not entry.name.startswith(".")]
        if not files:
            raise InputError(f"{folder / name}: got no image, expected one at least.")
        for entry in files:
            if not entry.name.lower().endswith(ENDINGS) or not entry.is_file():
                raise InputError(f"{entry.path}: got something else than an image, expected {', '.join(ENDINGS)}.")
            names.append(os.fsencode(f"{name}/{entry.name}"))
            labels.append(label)
            digest.update(names[-1] + b"\0%d\n" % entry.stat().st_size)
    return FolderImages(folder, np.array(names), digest.hexdigest()), torch.tensor(labels), classes


def _classes(folder: Path) -> list[str]:
    classes = [entry.name for entry in _entries(folder) if entry.is_dir() and not entry.name.startswith(".")]
    if len(classes) < 2:
        raise InputError(f"{folder}: got {len(classes)} folders of images, expected one a class, two at least.")
    if all(name.isdecimal() for name in classes):  # as alphabet and numbers agree only up to 9
        classes.sort(key=lambda name: (int(name), name))
    return classes


def _entries(folder: Path) -> list[os.DirEntry]:
    """What is in a folder, by name. Without symlinks nothing in it can lie elsewhere."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise WorkError(f"{folder}: could not be read ({error.strerror}).") from error
    for entry in entries:
        if entry.is_symlink():
            raise InputError(f"{entry.path}: got a symlink, expected the file or folder itself.")
    return entries
