"""What `rslab.experiments.pictures` found, read from `results/pictures`: votes and attacks of one picture at one σ."""

import json
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
import torch
from torch import Tensor

from rslab.errors import InputError, WorkError
from rslab.experiments.pictures import EPSILONS, N0, PICTURES, PLACE, SIGMAS, at_distance
from rslab.smoothing import bounds

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
