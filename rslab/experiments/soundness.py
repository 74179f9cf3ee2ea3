"""Do the certificates hold? Two experiments that would show it if they did not.

**Coverage.** Classifiers whose p_A and true radius are known in closed form, in 1 to 3,072 dimensions,
are certified 10,000 times each. A share of at most α may claim too much.

**Attacks.** The certified images of a finished run are attacked by PGD and DDN *inside* their radius and
judged by PREDICT: none may flip, beyond what α allows. And outside: how near does an attack succeed?

`python -m rslab.experiments.soundness coverage` and `… attacks [IMAGES] [RUN …]` write
`results/soundness/*.tsv` and the figure; `make soundness` repeats both, with new noise.
"""

import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.stats import binom, binomtest, ncx2, norm
from torch import Tensor

from rslab.attacks import ddn, negative_log_likelihood, pgd
from rslab.data.datasets import load_dataset
from rslab.errors import InputError, WorkError, check_at_least
from rslab.machine.randomness import generator_for
from rslab.networks.inference import InferenceNetwork
from rslab.smoothing import bounds
from rslab.smoothing.classifier import (
    ABSTAIN,
    Certificate,
    LogProbs,
    SmoothedClassifier,
    default_batch_size,
    log_mean_probs,
)
from rslab.smoothing.closed_forms import Ball, Halfspace, Interval
from rslab.smoothing.sampling import SLACK, on_grid
from rslab.smoothing.sequential import SequentialPlan
from rslab.store import files, run_folder
from rslab.store.logs import read_log

PLACE = run_folder.RESULTS / "soundness"
ALPHAS = (0.05, 0.001)
DIMENSIONS = {2: (1, 1, 2), 64: (1, 8, 8), 784: (1, 28, 28), 3072: (3, 32, 32)}
SIGMA = 0.25

# -- coverage --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Known:
    """A classifier and an image of class 1 for which the truth is known."""

    name: str
    classifier: LogProbs
    image: Tensor  # (C, H, W)
    p_a: float
    true_radius: float


def known_cases(p_a: float) -> Iterator[Known]:
    """Half-spaces, an interval and balls in which the image has probability `p_a` under noise of `SIGMA`."""
    gray = {d: torch.full(shape, 128 / 255) for d, shape in DIMENSIONS.items()}  # of whole steps, for every sampler
    for d, x in gray.items():
        normal = torch.randn(d, generator=torch.Generator().manual_seed(d))
        distance = SIGMA * float(norm.ppf(p_a))
        bias = distance * float(normal.norm()) - float(x.flatten().double() @ normal.double())
        yield Known(f"half-space, d = {d}", Halfspace(normal, bias), x, p_a, distance)
    interval = Interval(SIGMA * float(norm.isf((1 - p_a) / 2)))
    yield Known("interval, d = 1", interval, torch.zeros(1, 1, 1), p_a, interval.true_radius(SIGMA))
    for d, x in gray.items():
        ball = Ball(SIGMA * math.sqrt(ncx2.ppf(p_a, d, 0.0)), d)
        yield Known(f"ball, d = {d}", ball, torch.zeros_like(x), p_a, ball.true_radius(SIGMA))


def hardest_probability(n: int, alpha: float, count: int) -> float:
    """The p_A at which CERTIFY errs most often, P(count or more votes) = α: just below its bound of `count`."""
    return float(bounds.lower_confidence_bound(count, n, alpha)) - 1e-6


def exact_share(case: Known, n: int, alpha: float) -> float:
    """The probability that n votes certify more than the true radius: a binomial sum."""
    radii = bounds.certified_radius(bounds.lower_confidence_bound(np.arange(n + 1), n, alpha), SIGMA)
    return float(binom.pmf(np.arange(n + 1), n, case.p_a)[radii > case.true_radius].sum())


def _errors(case: Known, certify: Callable[[torch.Generator], Certificate], times: int, seed: int) -> tuple[int, int]:
    """Of `times` certificates: how many name another class or too large a radius, how many have p̲_A above p_A."""
    false = above = 0
    for number in range(times):
        certificate = certify(generator_for("certify", seed, number))
        wrong = certificate.prediction != 1 or certificate.radius > case.true_radius
        false += certificate.prediction != ABSTAIN and wrong
        above += certificate.selected == 1 and certificate.p_a_lower > case.p_a
    return false, above


def cover(
    case: Known, alpha: float, *, n: int = 100, n0: int = 10, times: int = 10_000, sampler: str = "float", seed: int = 0
) -> dict:
    """Certify the image of `case` `times` times; a row of the coverage table.

    `false` counts certificates of another class or of a radius above the true one, `above` the bounds p̲_A
    above p_A; `p_value` is the exact binomial test of "`above` has probability at most α".
    """
    check_at_least("times", times, 1)
    smoothed = SmoothedClassifier(case.classifier, 2, SIGMA, sampler=sampler)
    false, above = _errors(case, lambda g: smoothed.certify(case.image, n0, n, alpha, generator=g), times, seed)
    return {
        "classifier": case.name,
        "sampler": sampler,
        "bound": "clopper-pearson",
        "alpha": alpha,
        "n": n,
        "certifications": times,
        "false": false,
        "exact": exact_share(case, n, alpha),
        "above": above,
        "p_value": float(binomtest(max(above, false), times, alpha, alternative="greater").pvalue),
    }


def cover_sequentially(
    alpha: float, *, d: int = 64, n: int = 1000, times: int = 10_000, sampler: str = "float", seed: int = 0
) -> dict:
    """The same for the sequential bound, at a half-space whose distance is just below a radius of the plan."""
    check_at_least("times", times, 1)
    radii = (0.0, 0.1, 0.2, 0.3)
    case = next(known for known in known_cases(float(norm.cdf(0.2 / SIGMA)) - 1e-6) if known.name.endswith(f" {d}"))
    plan = SequentialPlan(SIGMA, radii, n, alpha, SLACK[sampler])
    smoothed = SmoothedClassifier(case.classifier, 2, SIGMA, sampler=sampler)
    false, _ = _errors(case, lambda g: smoothed.certify_sequential(case.image, 10, plan, generator=g), times, seed)
    return {
        "classifier": case.name,
        "sampler": sampler,
        "bound": "sequential",
        "alpha": alpha,
        "n": n,
        "certifications": times,
        "false": false,
        "exact": math.nan,
        "above": false,
        "p_value": float(binomtest(false, times, alpha, alternative="greater").pvalue),
    }


def coverage(*, times: int = 10_000, seed: int = 0) -> Iterator[dict]:
    """Every row of the coverage table: the classifiers at their hardest p_A, both samplers, the sequential bound."""
    for alpha in ALPHAS:
        for case in known_cases(hardest_probability(100, alpha, 90)):
            yield cover(case, alpha, times=times, seed=seed)
            if case.name in ("half-space, d = 784", "ball, d = 64"):
                yield cover(case, alpha, times=times, sampler="grid", seed=seed)
        for sampler in SLACK:
            yield cover_sequentially(alpha, times=times, sampler=sampler, seed=seed)


# -- attacks on certificates -----------------------------------------------------------------

ATTACK_COLUMNS = ("idx", "predict", "radius", "pgd", "ddn", "nearest")


def attack_certificates(
    folder: Path,
    *,
    images: int = 250,
    steps: int = 100,
    restarts: int = 2,
    samples: int = 16,
    n: int = 10_000,
    seed: int = 0,
    device: str = "cpu",
) -> Iterator[dict]:
    """Attack up to `images` certified images of a run folder, evenly from its certify.tsv; yields a row an image.

    y is the certified class. Columns: idx, predict (y), radius (certified), pgd and ddn (what PREDICT with n votes
    and the log's α answers to the attack inside the radius; −1: abstains), nearest (ℓ2 distance of the nearest
    attacked image to which PREDICT answers another class; ∞ where none was found).
    """
    model, config = run_folder.load_run(folder)
    settings = files.read_json(Path(folder) / "certify.json")
    log = read_log(Path(folder) / "certify.tsv")
    log = log[(log.predict != ABSTAIN) & (log.radius > 0)]
    if log.empty:
        raise InputError(f"{folder}: got no certified image in certify.tsv, expected one at least.")
    log = log.iloc[np.unique(np.linspace(0, len(log) - 1, min(images, len(log))).astype(int))]
    data = load_dataset(config.dataset, "test")
    network = InferenceNetwork(model, settings.get("precision", "float32")).to(device)
    judge = SmoothedClassifier(network, data.num_classes, settings["sigma"], sampler=settings.get("sampler", "float"))
    at_once = max(1, default_batch_size(data.shape, torch.device(device).type) // samples)
    for start in range(0, len(log), at_once):
        rows = log.iloc[start : start + at_once]
        x = data.images[rows.idx.tolist()].to(device)
        y = torch.tensor(rows.predict.tolist(), device=device)
        radii = torch.tensor(rows.radius.tolist(), device=device, dtype=torch.float64)
        yield from _attacked(judge, network, x, y, radii, rows, (steps, restarts, samples), n, settings, seed)


def _attacked(judge, network, x, y, radii, rows, effort, n: int, settings: dict, seed: int) -> Iterator[dict]:
    steps, restarts, samples = effort
    generator = generator_for("attack", seed, int(rows.idx.iloc[0]), x.device)
    noise = torch.randn(samples, *x.shape, device=x.device, generator=generator) * judge.sigma

    def g(z: Tensor) -> Tensor:
        return log_mean_probs(network, z, noise)

    options = {"steps": steps, "objective": negative_log_likelihood}
    search = options | {"restarts": restarts, "generator": generator}
    inside = {"pgd": pgd(g, x, y, radii, **search), "ddn": ddn(g, x, y, radii, **options)}
    beyond = [ddn(g, x, y, **options), pgd(g, x, y, 1.5 * radii, **search)]
    for number, (index, label, radius) in enumerate(zip(rows.idx, y.tolist(), radii.tolist(), strict=True)):
        one = Judge(judge, x[number], int(index), label, settings["alpha"], seed)
        found = {name: one.answer(images[number], n) for name, images in inside.items()}
        nearest = min(nearest_on_the_way(one, images[number], radius, n) for images in beyond)
        yield dict(zip(ATTACK_COLUMNS, (int(index), label, radius, *found.values(), nearest), strict=True))


class Judge:
    """PREDICT on images made from the test image `x` with number `index`: fresh noise for every question."""

    def __init__(self, smoothed: SmoothedClassifier, x: Tensor, index: int, label: int, alpha: float, seed: int):
        self.smoothed, self.x, self.index, self.label, self.alpha = smoothed, x, index, label, alpha
        self.question = 100 * (seed % 10)

    def answer(self, image: Tensor, n: int) -> int:
        """The class that n votes give, or −1."""
        generator = generator_for("predict", self.question, self.index, image.device)
        self.question += 1
        if self.smoothed.sampler == "grid":
            image = on_grid(self.x, image)
        return self.smoothed.predict(image, n, self.alpha, generator=generator).prediction

    def flips(self, image: Tensor, n: int) -> bool:
        """Whether they give another class than the certified one."""
        return self.answer(image, n) not in (self.label, ABSTAIN)


def nearest_on_the_way(judge: Judge, target: Tensor, radius: float, n: int) -> float:
    """The least distance on the line from x through `target` at which `judge` was seen to flip; ∞ if it never did.

    Goes outwards from the target until PREDICT flips, halves back to within 1 %, with n / 10 votes; the place that
    it ends at must flip with n votes, or the next one 2 % further out.
    """
    x = judge.x
    length = float((target - x).norm())
    if length == 0:
        return math.inf

    def at(distance: float) -> Tensor:
        return (x + (target - x) * (distance / length)).clamp(0, 1)

    few = max(n // 10, 1)
    near, far = radius, max(length, radius)
    while not judge.flips(at(far), few):
        near, far = far, 1.3 * far
        if far > 4 * max(length, radius):
            return math.inf
    while far > 1.01 * near:
        middle = (near + far) / 2
        near, far = (near, middle) if judge.flips(at(middle), few) else (middle, far)
    for _ in range(5):
        if judge.flips(at(far), n):
            return float((at(far) - x).norm())
        far *= 1.02
    return math.inf


def summary(rows: pd.DataFrame, alpha: float = 0.001) -> dict:
    """Of attacked certificates: how many flipped inside, how many α allows, how far beyond the nearest attack was.

    `allowed`: the most images that flip with probability 10⁻⁴ although all is well: the certificate and both
    answers of PREDICT err with probability α each.
    """
    flipped = sum(~rows[name].isin([ABSTAIN]) & (rows[name] != rows.predict) for name in ("pgd", "ddn")) > 0
    ratio = (rows.nearest / rows.radius)[np.isfinite(rows.nearest)]
    return {
        "images": len(rows),
        "flipped": int(flipped.sum()),
        "allowed": int(binom.isf(1e-4, len(rows), 3 * alpha)),
        "reached": len(ratio),
        "least_ratio": float(ratio.min()) if len(ratio) else math.inf,
        "median_ratio": float(ratio.median()) if len(ratio) else math.inf,
    }


# -- results ---------------------------------------------------------------------------------


def trained_runs() -> list[Path]:
    """The certified runs on digits and CIFAR-10 that are shipped, in order."""
    places = (run_folder.RESULTS / name for name in ("digits", "cifar10-small"))
    return sorted(log.parent for place in places for log in place.glob("*/certify.tsv"))


def attack_log(folder: Path) -> Path:
    """Where the attacks on the certificates of a run are written."""
    return PLACE / f"attacks-{folder.parent.name}-{folder.name}.tsv"


def read_attacks() -> dict[str, pd.DataFrame]:
    """The attacks in `results/soundness`, by data set and run."""
    return {
        path.stem.removeprefix("attacks-"): pd.read_csv(path, sep="\t") for path in sorted(PLACE.glob("attacks-*.tsv"))
    }


def main(arguments: list[str]) -> None:
    """`coverage`; or `attacks`, how many images of each (default 250), and run folders (default: all shipped)."""
    from rslab.lectures.results import gap_figure

    torch.set_num_threads(1)
    if arguments[:1] == ["coverage"] and len(arguments) == 1:
        table = pd.DataFrame(coverage())
        _write(table, PLACE / "coverage.tsv")
        print(table.to_string(index=False))
    elif arguments[:1] == ["attacks"]:
        number, *folders = arguments[1:] if arguments[1:2] and arguments[1].isdigit() else ["250", *arguments[1:]]
        check_at_least("IMAGES", int(number), 1)
        for folder in map(Path, folders or trained_runs()):
            folder = folder.resolve()
            rows = pd.DataFrame(attack_certificates(folder, images=int(number)))
            _write(rows, attack_log(folder))
            print(f"{folder.parent.name}/{folder.name}: {summary(rows)}", flush=True)
        gap_figure(read_attacks()).savefig(PLACE / "gap.png", dpi=110)
    else:
        raise InputError(
            f"arguments: got {' '.join(arguments) or 'none'}, expected coverage, or attacks [IMAGES] [RUN …]."
        )


def _write(table: pd.DataFrame, path: Path) -> None:
    files.write_whole(path, lambda file: table.to_csv(file, sep="\t", index=False))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (InputError, WorkError) as error:
        sys.exit(f"soundness: {error}")
