"""The loss of a network as a function of its image: along lines, over a plane, where many runs of PGD end.

Of a network at hand these are computed in a cell; of the MNIST and CIFAR-10 networks, which take two hours to train,
they are read from what `rslab.experiments.adversarial` kept.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rslab import attacks

PGD_STEPS, STARTS, AXIS, SHARES = 20, 1000, np.linspace(0, 1.1, 67), np.linspace(0, 1, 101)


@torch.no_grad()
def losses_along(f, x: Tensor, y: Tensor, ends: Tensor, shares: np.ndarray) -> np.ndarray:
    """Cross-entropy at x + t·(end − x) for each t in `shares`: `(T, B)`."""
    rows = [attacks.cross_entropy(f(x + float(t) * (ends - x)), y) for t in shares]
    return torch.stack(rows).numpy()


def lines(f, x: Tensor, y: Tensor, epsilon: float) -> dict[str, np.ndarray]:
    """The loss from x to FGSM's and to PGD's end, at 41 places of equal distance: name of the attack → `(41, B)`."""
    ends = {
        "FGSM": attacks.fgsm(f, x, y, epsilon),
        "PGD": attacks.pgd(f, x, y, epsilon, norm="linf", steps=PGD_STEPS),
    }
    return {attack: losses_along(f, x, y, end, np.linspace(0, 1, 41)) for attack, end in ends.items()}


def final_losses(f, x: Tensor, y: int, epsilon: float, starts: int) -> tuple[np.ndarray, Tensor]:
    """PGD from `starts` random points of the ball around one image: (losses `(S,)`, ends `(S, C, H, W)`)."""
    copies, labels = x.expand(starts, *x.shape).contiguous(), torch.full((starts,), y)
    how = {"random_start": True, "generator": torch.Generator().manual_seed(0)}
    ends = attacks.pgd(f, copies, labels, epsilon, norm="linf", steps=PGD_STEPS, **how)
    with torch.no_grad():
        return attacks.cross_entropy(f(ends), labels).numpy(), ends


def angles_between(directions: Tensor) -> Tensor:
    """The angles in degrees between vectors `(N, …)`, every one with every other: `(N, N)`."""
    unit = torch.nn.functional.normalize(directions.flatten(1).double(), dim=1)
    return torch.rad2deg(torch.arccos((unit @ unit.T).clamp(-1, 1)))


def distinct_ends(ends: Tensor, x: Tensor) -> tuple[int, int, np.ndarray]:
    """The two of these perturbed images whose directions from x differ most, and the angles of all pairs in degrees."""
    angles = angles_between(ends - x)
    first, second = divmod(int(angles.argmax()), len(ends))
    return first, second, angles[torch.triu(torch.ones_like(angles, dtype=torch.bool), 1)].numpy()


@torch.no_grad()
def loss_plane(f, x: Tensor, y: int, first: Tensor, second: Tensor, axis: np.ndarray) -> np.ndarray:
    """L(x + λ₁(first − x) + λ₂(second − x)) on axis × axis, row = λ₂: `(N, N)`."""
    coordinates = torch.tensor(np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2), dtype=x.dtype)
    moves = torch.stack(((first - x).flatten(), (second - x).flatten()))
    losses = []
    for places in coordinates.split(512):
        images = x + (places @ moves).view(-1, *x.shape)
        losses.append(attacks.cross_entropy(f(images), torch.full((len(images),), y)))
    return torch.cat(losses).view(len(axis), -1).numpy()


def between(f, x: Tensor, y: int, first: Tensor, second: Tensor) -> dict[str, np.ndarray]:
    """The loss over the plane of x and two ends on `AXIS` × `AXIS`, and at `SHARES` of three straight lines."""
    label = torch.tensor([y])
    ways = {"first to second": (first, second), "x to first": (x, first), "x to second": (x, second)}
    straight = {
        name: losses_along(f, start[None], label, end[None], SHARES)[:, 0] for name, (start, end) in ways.items()
    }
    return {"plane": loss_plane(f, x, y, first, second, AXIS), **straight}


@dataclass(frozen=True)
class Study:
    """The loss of one network, as arrays that are kept by name in a file."""

    arrays: dict[str, np.ndarray]

    @property
    def lines(self) -> dict[str, np.ndarray]:
        """As the function `lines` gives them."""
        return {attack: self.arrays[f"line, {attack}"].astype(float) for attack in ("FGSM", "PGD")}

    @property
    def ends(self) -> list[np.ndarray]:
        """Of each image that was studied the final losses of PGD from many starts."""
        return [losses for name, losses in self.arrays.items() if name.startswith("ends")]

    def median_angle(self, image: int) -> int:
        """The median over all pairs of the angle between the directions of two high ends, rounded down to a degree."""
        pairs = self.arrays[f"angles, {image}"].cumsum()
        return int((pairs < pairs[-1] / 2).sum())

    def between(self, image: int) -> dict[str, np.ndarray]:
        """`between` the image and those two of its high ends that lie furthest apart."""
        end = f", {image}"
        names = ("plane", "first to second", "x to first", "x to second")
        return {name: self.arrays[name + end].astype(float) for name in names}


def study(f, x: Tensor, y: Tensor, shown: list[int], epsilon: float) -> Study:
    """All of this for one network: lines of all images; ends, angles and a plane of those `shown`."""
    found = {f"line, {attack}": losses.astype(np.float16) for attack, losses in lines(f, x, y, epsilon).items()}
    for number, i in enumerate(shown):
        losses, ends = final_losses(f, x[i], int(y[i]), epsilon, STARTS)
        high = ends[losses > 0.9 * losses.max()]  # within a tenth of the highest
        first, second, angles = distinct_ends(high, x[i])
        found[f"ends, {number}"] = losses.astype(np.float32)
        found[f"angles, {number}"] = np.histogram(angles, np.arange(181))[0]  # pairs, a bin a degree
        plane = between(f, x[i], int(y[i]), high[first], high[second])
        found |= {f"{name}, {number}": values.astype(np.float16) for name, values in plane.items()}
    return Study(found)


def read_studies(place: Path) -> dict[str, Study]:
    """What `rslab.experiments.adversarial` wrote, by network."""
    studies: dict[str, Study] = {}
    with np.load(place, allow_pickle=False) as arrays:
        for key in arrays.files:
            network, name = key.split("/")
            studies.setdefault(network, Study({})).arrays[name] = arrays[key]
    return studies
