"""σ against ε on pictures: what is proven, what is broken, and what lies between.

For each picture and σ: the votes of noisy copies, in the order in which they were drawn; and the nearest change that
the strongest attack found, judged by PREDICT. The explorer "σ against ε" only looks up what is computed here.

`python -m rslab.experiments.pictures [PICTURE …]` writes `results/pictures/PICTURE-SIGMA.npz` and `.json`, and skips
what is there. Photographs need `rslab[photographs]`, CIFAR-10 its files. The minutes stand in the .json files.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from rslab.attacks import ddn, pgd
from rslab.errors import InputError, WorkError
from rslab.lectures.pictures import (
    EPSILONS,
    N0,
    PICTURES,
    PLACE,
    SIGMAS,
    N,
    Picture,
    at_distance,
    kept_direction,
)
from rslab.machine.randomness import generator_for
from rslab.smoothing.classifier import ABSTAIN, SmoothedClassifier, log_mean_probs
from rslab.store import files

ALPHA = 0.001  # of PREDICT at an attacked picture
COPIES, STEPS, RESTARTS = 16, 20, 2


@torch.no_grad()
def ordered_votes(f: nn.Module, x: Tensor, sigma: float, n: int, generator: torch.Generator) -> np.ndarray:
    """The class that f gives to each of n noisy copies of x (C, H, W), in the order of drawing: uint16 (n,)."""
    votes = []
    for start in range(0, n, 50):
        noise = torch.randn(min(50, n - start), *x.shape, generator=generator)
        votes.append(f(x + sigma * noise).argmax(1))
    return torch.cat(votes).numpy().astype(np.uint16)


class Judge:
    """Whose answer at x an attack has to change: g's by PREDICT, or for σ = 0 that of f."""

    def __init__(self, f: nn.Module, x: Tensor, sigma: float, classes: int, top: int, judges: int):
        self.f, self.x, self.sigma, self.top, self.judges = f, x, sigma, top, judges
        self.smoothed = SmoothedClassifier(f, classes, sigma, batch_size=50) if sigma else None

    @torch.no_grad()
    def counts(self, image: Tensor, n: int, generator: torch.Generator) -> Tensor:
        """Votes a class of n noisy copies (K,); without noise one vote."""
        if self.smoothed is None:
            logits = self.f(image[None])
            return nn.functional.one_hot(logits.argmax(1), logits.shape[1])[0]
        return self.smoothed.sample_under_noise(image, n, generator=generator)

    def broken(self, image: Tensor, n: int, generator: torch.Generator) -> bool:
        """Whether the answer at `image` is another class than `top`; abstaining is no answer."""
        if self.smoothed is None:
            return int(self.counts(image, 1, generator).argmax()) != self.top
        answer = self.smoothed.predict(image, n, ALPHA, generator=generator).prediction
        return answer not in (ABSTAIN, self.top)

    def nearest(self, direction: Tensor, longest: float, index: int) -> float:
        """The shortest ε up to `longest` along the direction at which PREDICT gives another class; inf if none."""
        low, high = 0.0, longest
        for step in range(7):  # by few votes to where the majority turns …
            middle = (low + high) / 2
            counts = self.counts(at_distance(self.x, direction, middle), 60, generator_for("attack", 1, index + step))
            low, high = (low, middle) if int(counts.argmax()) != self.top else (middle, high)
        for step, epsilon in enumerate(high * np.array((1.0, 1.02, 1.05, 1.1, 1.2))):  # … and from there by PREDICT
            image = at_distance(self.x, direction, float(epsilon))
            generator = generator_for("predict", 0, index + step)
            if epsilon <= 1.001 * longest and self.broken(image, self.judges, generator):
                return float(epsilon)
        return float("inf")


def strongest_attack(judge: Judge, other: nn.Module) -> tuple[Tensor, float, list[dict]]:
    """(direction, ε, what was tried): the nearest change of the picture found that changes the answer.

    DDN; PGD at ε = 1, 2, 4, 8 until one succeeds; PGD from random points at a little less than the best so far; PGD
    on the other network at the best. Each climbs the smoothed soft classifier of `COPIES` noisy copies of its own.
    """
    x, y = judge.x[None], torch.tensor([judge.top])
    shape = (COPIES if judge.sigma else 1, 1, *judge.x.shape)
    tried: list[dict] = []
    best, best_direction = float("inf"), torch.zeros(judge.x.shape, dtype=torch.int8)

    def scores(network: nn.Module, number: int) -> Callable[[Tensor], Tensor]:
        noise = judge.sigma * torch.randn(shape, generator=generator_for("attack", 0, number))
        return lambda images: log_mean_probs(network, images, noise)

    def consider(name: str, epsilon: float | None, attacked: Tensor) -> None:
        nonlocal best, best_direction
        direction = kept_direction(attacked[0] - judge.x)
        longest = min(2.0 * float((attacked - x).norm()), best)
        distance = judge.nearest(direction, longest, 100 * (len(tried) + 1)) if bool(direction.any()) else float("inf")
        tried.append({"attack": name, "epsilon": epsilon, "nearest": distance if np.isfinite(distance) else None})
        if distance < best:
            best, best_direction = distance, direction

    f, steps = judge.f, STEPS if judge.sigma else 5 * STEPS  # one copy costs little
    consider("ddn", None, ddn(scores(f, 0), x, y, steps=steps))
    epsilon = 1.0
    while not np.isfinite(best) and epsilon <= EPSILONS[-1]:
        consider("pgd", epsilon, pgd(scores(f, 1), x, y, epsilon, steps=steps))
        epsilon *= 2
    epsilon = 0.85 * best if np.isfinite(best) else EPSILONS[-1]
    generator = generator_for("attack", 0, 10)
    found = pgd(scores(f, 2), x, y, epsilon, steps=steps, restarts=RESTARTS, random_start=True, generator=generator)
    consider("pgd from random points", epsilon, found)
    epsilon = min(best, EPSILONS[-1])
    consider("pgd on another network", epsilon, pgd(scores(other, 3), x, y, epsilon, steps=steps))
    return best_direction, best, tried


def study(picture: Picture, sigma: float, folder: Path = PLACE) -> dict:
    """Votes, strongest attack and votes along it of one picture at one σ; written to `folder`, and the numbers back."""
    began = time.perf_counter()
    f, other = picture.networks()
    x, classes = picture.image, len(picture.classes)
    arrays = folder / f"{picture.name}-{sigma:g}.npz"
    if arrays.is_file():  # an earlier run was stopped after the votes
        with np.load(arrays, allow_pickle=False) as stored:
            votes = stored["votes"]
    elif sigma:
        votes = ordered_votes(f, x, sigma, N0 + N, generator_for("certify", 0, picture.index))
    else:
        with torch.no_grad():
            votes = f(x[None]).argmax(1).numpy().astype(np.uint16)
    top = int(np.bincount(votes[:N0], minlength=classes).argmax())
    voted = time.perf_counter()
    files.write_whole(arrays, lambda place: write_arrays(place, votes=votes))
    judge = Judge(f, x, sigma, classes, top, picture.judges)
    direction, nearest, tried = strongest_attack(judge, other)
    attacked = time.perf_counter()
    counts = [
        judge.counts(at_distance(x, direction, epsilon), picture.judges, generator_for("predict", 1, number))
        for number, epsilon in enumerate(EPSILONS)
    ]
    rows = []
    for epsilon, row in zip(EPSILONS, counts, strict=True):
        chosen = row.topk(3).indices.tolist()
        rows.append({"epsilon": epsilon, "votes": {str(c): int(row[c]) for c in chosen if row[c]}, "n": int(row.sum())})
    numbers = {
        "picture": picture.name,
        "sigma": sigma,
        "precision": picture.precision,
        "label": picture.label,
        "top": top,
        "nearest": nearest if np.isfinite(nearest) else None,
        "tried": tried,
        "attacked_votes": rows,
        "seconds": {
            "votes": round(voted - began, 1),
            "attacks": round(attacked - voted, 1),
            "votes under attack": round(time.perf_counter() - attacked, 1),
        },
    }
    path = folder / f"{picture.name}-{sigma:g}.json"
    files.write_whole(arrays, lambda place: write_arrays(place, votes=votes, direction=direction.numpy()))
    files.write_whole(path, lambda place: place.write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8"))
    return numbers


def write_arrays(place: Path, **arrays: np.ndarray) -> None:
    """Named arrays into a compressed file of exactly that name."""
    with place.open("wb") as file:  # a name would get a second ending
        np.savez_compressed(file, allow_pickle=False, **arrays)  # type: ignore[arg-type]


def main(arguments: list[str]) -> None:
    """Study the pictures named, or all; what is there is skipped."""
    unknown = [name for name in arguments if name not in PICTURES]
    if unknown:
        raise InputError(f"PICTURE: got {unknown[0]!r}, expected one of {', '.join(PICTURES)}.")
    torch.set_num_threads(1)
    PLACE.mkdir(parents=True, exist_ok=True)
    for name in arguments or PICTURES:
        for sigma in SIGMAS:
            if (PLACE / f"{name}-{sigma:g}.json").is_file():
                continue
            numbers = study(PICTURES[name], sigma)
            print(f"{name}, σ = {sigma:g}: nearest {numbers['nearest']}, {numbers['seconds']}", flush=True)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (InputError, WorkError) as error:
        sys.exit(f"pictures: {error}")
