"""Pictures with what was found on them: votes under noise, and the nearest attack. Read from `results/pictures`.

`rslab.experiments.pictures` and `rslab.experiments.imperceptible` compute it; here is what the pictures are, how a
change is kept, and what the lectures ask of the files.
"""

import json
import math
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
import torch
from torch import Tensor, nn

from rslab.attacks import project
from rslab.data.datasets import load_dataset
from rslab.data.photographs import PHOTOGRAPHS, load_photographs
from rslab.errors import InputError, WorkError
from rslab.networks.efficientnet import efficientnet_lite
from rslab.networks.inference import InferenceNetwork
from rslab.smoothing import bounds
from rslab.store import run_folder

PLACE = run_folder.RESULTS / "pictures"
SIGMAS = (0.0, 0.12, 0.25, 0.5)  # 0: f itself, without noise
# ε in [0, 1] pixel units, at each of which the attacked picture is voted on
EPSILONS = (0.0, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)
N0, N = 100, 2000  # votes that select the class, and votes that bound its probability
LEVELS = 15  # a direction is kept in so many steps each way: judged as it is kept
# Of the attacks under ℓ∞: ε in grey levels of 255, steps of PGD, and those whose changes are kept as pictures
GREY_LEVELS, STEPS = (1, 2, 4, 8), (1, 2, 5, 10, 20, 50)
KEPT_GREY_LEVELS, KEPT_STEPS = (1, 8), 50

TITLES = {
    "coffee": "a coffee",
    "camera": "a photographer",
    "chelsea": "a cat",
    "rocket": "a rocket",
    "digit-2": "a digit, 8 × 8 pixels",
    "digit-8": "another digit",
    "cifar10-20": "CIFAR-10, image 20",
    "cifar10-80": "CIFAR-10, image 80",
}


@dataclass(frozen=True)
class Picture:
    """A picture with the network that judges it and another, from which attacks are transferred."""

    name: str
    dataset: str  # of the networks: "photographs", "digits", "cifar10"
    index: int
    precision: str = "float32"
    judges: int = 1000  # votes of PREDICT at the attacked picture

    @cached_property
    def _data(self):
        if self.dataset == "photographs":
            return load_photographs()
        return load_dataset(self.dataset, "test", download=False)  # a lecture never downloads

    @property
    def image(self) -> Tensor:
        """(C, H, W) in [0, 1]."""
        return self._data.images[self.index]

    @property
    def label(self) -> int:
        """The class that people see."""
        return int(self._data.labels[self.index])

    @property
    def classes(self) -> tuple[str, ...]:
        """The K class names."""
        return self._data.classes

    def networks(self) -> tuple[nn.Module, nn.Module]:
        """f, and the other network."""
        if self.dataset == "photographs":
            both: list[nn.Module] = [efficientnet_lite(size) for size in (0, 1)]
        else:
            both = [run_folder.load_run(run_folder.RESULTS / place)[0] for place in RUNS[self.dataset]]
        return InferenceNetwork(both[0], self.precision), InferenceNetwork(both[1], self.precision)


RUNS = {
    "digits": ("digits/gaussian-0.25", "digits/smoothadv-0.25"),
    "cifar10": ("cifar10/consistency-0.25", "cifar10-small/consistency-0.25"),
}
PICTURES = {
    **{name: Picture(name, "photographs", index, "bfloat16", judges=100) for index, name in enumerate(PHOTOGRAPHS)},
    **{f"digit-{index}": Picture(f"digit-{index}", "digits", index) for index in (2, 8)},
    **{f"cifar10-{index}": Picture(f"cifar10-{index}", "cifar10", index) for index in (20, 80)},
}


def rounded_down(bound: float, digits: int) -> str:
    """A radius or a lower bound for the eye: what is read never exceeds what was proven."""
    return f"{math.floor(bound * 10**digits) / 10**digits:.{digits}f}"


def kept_direction(delta: Tensor) -> Tensor:
    """The direction of a perturbation in whole steps from −LEVELS to LEVELS, as it is stored: int8, same shape."""
    return (delta / delta.abs().max().clamp_min(1e-30) * LEVELS).round().to(torch.int8)


def at_distance(x: Tensor, direction: Tensor, epsilon: float) -> Tensor:
    """x (C, H, W) moved by ε along a direction kept in whole steps, inside [0, 1]."""
    unit = direction.float() / direction.float().norm().clamp_min(1e-30)
    return project(x[None], epsilon * unit[None], epsilon)[0]


@dataclass(frozen=True)
class Study:
    """One picture at one σ; distances in ℓ2, pixels in [0, 1]."""

    name: str
    sigma: float
    image: Tensor  # (C, H, W)
    classes: tuple[str, ...]
    label: int
    votes: np.ndarray  # (N0 + n,), the class of each noisy copy in the order of drawing
    direction: Tensor  # int8 (C, H, W), of the nearest attack
    nearest: float  # its distance; inf where none was found
    attacked: tuple[dict[int, float], ...]  # for each of EPSILONS: class → share of the votes there

    @property
    def title(self) -> str:
        """A few words for a menu."""
        return TITLES[self.name]

    @cached_property
    def _noise(self) -> Tensor:
        return torch.randn(self.image.shape, generator=torch.Generator().manual_seed(0))

    def noisy(self) -> Tensor:
        """One noisy copy, (C, H, W)."""
        return self.image + self.sigma * self._noise

    def moved(self, epsilon: float) -> Tensor:
        """The picture at distance ε along the attack, (C, H, W)."""
        return at_distance(self.image, self.direction, epsilon) if epsilon else self.image

    def leader(self, epsilon: float) -> int:
        """The class with most votes at distance ε, one of `EPSILONS`, along the attack."""
        votes = self.attacked[EPSILONS.index(epsilon)]
        return max(votes, key=lambda c: votes[c])

    def certify(self, n: int, alpha: float) -> tuple[int, int, float, float]:
        """(class, its votes, p̲_A, R) by CERTIFY from the first n votes after the N0 that select the class."""
        if self.sigma == 0:
            return int(self.votes[0]), 1, 0.0, 0.0
        top = int(np.bincount(self.votes[:N0]).argmax())
        count = int((self.votes[N0 : N0 + n] == top).sum())
        lower = bounds.lower_confidence_bound(count, n, alpha)
        return top, count, lower, bounds.certified_radius(lower, self.sigma)

    def shares(self, n: int) -> dict[int, float]:
        """class → share of the first n votes after the selection."""
        votes = self.votes[N0 : N0 + n] if self.sigma else self.votes
        found, counts = np.unique(votes, return_counts=True)
        return {int(c): k / len(votes) for c, k in zip(found, counts, strict=True)}


@cache
def available() -> tuple[str, ...]:
    """The pictures that can be shown here: all but CIFAR-10's, which need their data set."""
    names = []
    for name, picture in PICTURES.items():
        if not all((PLACE / f"{name}-{sigma:g}.json").is_file() for sigma in SIGMAS):
            continue
        try:
            _ = picture.image
        except (InputError, WorkError):
            continue
        names.append(name)
    return tuple(names)


@cache
def read_study(name: str, sigma: float) -> Study:
    """The study of `name` at one of `SIGMAS`."""
    if name not in PICTURES or sigma not in SIGMAS:
        raise InputError(f"study: got {name!r} at σ = {sigma:g}, expected one of {', '.join(PICTURES)} at {SIGMAS}.")
    picture = PICTURES[name]
    numbers = json.loads((PLACE / f"{name}-{sigma:g}.json").read_text(encoding="utf-8"))
    with np.load(PLACE / f"{name}-{sigma:g}.npz", allow_pickle=False) as arrays:
        votes, direction = arrays["votes"], torch.from_numpy(arrays["direction"])
    attacked = tuple({int(c): k / row["n"] for c, k in row["votes"].items()} for row in numbers["attacked_votes"])
    nearest = float("inf") if numbers["nearest"] is None else numbers["nearest"]
    return Study(name, sigma, picture.image, picture.classes, picture.label, votes, direction, nearest, attacked)


def read_grey_levels() -> tuple[dict, dict[int, np.ndarray]]:
    """(numbers, changes) of the attacks under ℓ∞: "clean" by network, "attacked" by (levels, steps), network.

    changes: by ε, int8 (4, 3, 224, 224) in grey levels of 255.
    """
    numbers = json.loads((PLACE / "linf.json").read_text("utf-8"))
    numbers["attacked"] = {(row["levels"], row["steps"]): row for row in numbers["attacked"]}
    with np.load(PLACE / "linf.npz", allow_pickle=False) as arrays:
        return numbers, {int(levels): arrays[levels] for levels in arrays.files}
