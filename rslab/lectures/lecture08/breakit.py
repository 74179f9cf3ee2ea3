"""Six certificates that look right and are false, and the toys on the line that show it.

Every certificate here is wrong on purpose: the exercises of notebook 08 ask for an input on which it is false, and
for a sound one in its place. Images are numbers, or points of the plane, so that the truth is known in closed form:
the share of each class under noise is a sum of Φ's, and the true radius the distance to where that sum crosses ½.

A certificate is a triple (prediction, radius, σ): "g at this σ keeps this class at every distance below the radius".
`ABSTAIN`, with radius 0, certifies nothing.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from scipy.optimize import brentq
from scipy.stats import norm

from rslab.errors import InputError, check_positive
from rslab.smoothing import bounds
from rslab.smoothing.classifier import ABSTAIN

SIGMAS = (0.1, 0.3, 1.0)  # of the rule that suits σ to the image
THREE = (0.25, 0.5, 1.0)  # of the best of three
FIRST = 100  # votes that choose the class
Claim = tuple[int, float, float]

# -- classifiers on the line ------------------------------------------------------------------


@dataclass(frozen=True)
class Line:
    """A base classifier of numbers: `classes[i]` between `cuts[i − 1]` and `cuts[i]`, the last one beyond all cuts.

    >>> f = Line(cuts=(-1.0, 1.0), classes=(0, 1, 0))  # class 1 between −1 and 1
    >>> f(np.array([-2.0, 0.5])).tolist()
    [0, 1]
    >>> round(float(f.probabilities(0.0, sigma=1.0)[1]), 4)  # Φ(1) − Φ(−1)
    0.6827
    """

    cuts: Sequence[float]
    classes: Sequence[int]

    def __post_init__(self):
        cuts, classes = np.asarray(self.cuts, dtype=float), list(self.classes)
        if cuts.ndim != 1 or not np.isfinite(cuts).all() or (np.diff(cuts) <= 0).any():
            raise InputError(f"cuts: got {self.cuts}, expected increasing numbers.")
        if len(classes) != len(cuts) + 1:
            raise InputError(f"classes: got {len(classes)}, expected {len(cuts) + 1}, one more than the cuts.")
        if any(c not in (0, 1) for c in classes):
            raise InputError(f"classes: got {classes}, expected 0 or 1 each.")

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Points (n,) → classes (n,)."""
        return np.asarray(self.classes)[np.searchsorted(np.asarray(self.cuts), points)]

    def probabilities(self, x, sigma: float) -> np.ndarray:
        """P(class of x + noise) for x, a number or (n,): (2,) or (n, 2), exact."""
        below = norm.cdf((np.asarray(self.cuts) - np.asarray(x, dtype=float)[..., None]) / sigma)
        ends = np.zeros_like(below[..., :1]), np.ones_like(below[..., :1])
        pieces = np.diff(np.concatenate((ends[0], below, ends[1]), axis=-1), axis=-1)  # (…, len(classes))
        one = pieces @ np.asarray(self.classes, dtype=float)
        return np.stack((1 - one, one), axis=-1)

    def prediction(self, x: float, sigma: float) -> int:
        """The class of the smoothed classifier g at x; a tie goes to class 0."""
        return int(self.probabilities(x, sigma)[1] > 0.5)

    def true_radius(self, x: float, sigma: float, farthest: float = 12.0) -> float:
        """Distance from x to the nearest point where g answers otherwise, `farthest` if none is nearer."""
        return min(self._crossing(x, way, sigma, farthest) for way in (-1.0, 1.0))

    def _crossing(self, x: float, way: float, sigma: float, farthest: float) -> float:
        def lead(distance):  # of the class at x over the other
            return (self.probabilities(x + way * np.asarray(distance), sigma)[..., 1] - 0.5) * sign

        sign = 1.0 if self.prediction(x, sigma) else -1.0
        steps = np.linspace(0.0, farthest, 6001)
        lost = np.flatnonzero(lead(steps) <= 0)
        if not len(lost):
            return farthest
        first = int(lost[0])
        return float(brentq(lead, steps[first - 1], steps[first])) if first else 0.0


HALF_SPACE = Line(cuts=(0.0,), classes=(0, 1))  # class 1 right of 0: the true radius at x is x, at every σ


@lru_cache(maxsize=10_000)
def _share(cuts: tuple, classes: tuple, x: float, sigma: float) -> float:
    return float(Line(cuts, classes).probabilities(x, sigma)[1])


def votes(f: Callable, x: float, sigma: float, n: int, rng: np.random.Generator) -> np.ndarray:
    """How many of n noisy copies of x get class 0 and class 1: (2,). Fresh noise at every call."""
    if type(f) is Line:  # the same law, at once: each copy is of class 1 with the probability that is known
        ones = int(rng.binomial(n, min(_share(tuple(f.cuts), tuple(f.classes), float(x), float(sigma)), 1.0)))
        return np.array([n - ones, ones])
    return np.bincount(f(x + sigma * rng.standard_normal(n)), minlength=2)


@lru_cache(maxsize=100_000)
def lower(count: int, n: int, alpha: float) -> float:
    """Clopper–Pearson's lower bound at level α, kept: the same counts come again and again."""
    return bounds.lower_confidence_bound(count, n, alpha)


def claim(prediction: int, p_lower: float, sigma: float) -> Claim:
    """The certificate that a lower bound of p_A gives: radius σΦ⁻¹(p̲_A), or an abstention where p̲_A ≤ ½."""
    if p_lower <= 0.5:
        return ABSTAIN, 0.0, sigma
    return int(prediction), float(sigma * norm.ppf(min(p_lower, 1 - 1e-16))), sigma


def exact(f: Line, x: float, sigma: float) -> Claim:
    """The certificate of infinitely many votes: no chance, no α. Sound, for g at this one σ."""
    shares = f.probabilities(x, sigma)
    return claim(int(shares.argmax()), float(shares.max()), sigma)


# -- the six certificates ---------------------------------------------------------------------


def certify_suited(f: Line, x: float, sigmas: Sequence[float] = SIGMAS) -> Claim:
    """Each image is smoothed with the σ that suits it: the one with the largest radius. p_A is exact.

    The system answers every image in this way, x' too.
    """
    return max((exact(f, x, sigma) for sigma in sigmas), key=lambda certificate: certificate[1])


def certify_best(f: Line, x: float, n: int, alpha: float, rng, sigmas: Sequence[float] = THREE) -> Claim:
    """CERTIFY at three σ, with fresh votes for each; of three sound certificates the largest is reported."""
    found = []
    for sigma in sigmas:
        chosen = int(votes(f, x, sigma, FIRST, rng).argmax())
        count = int(votes(f, x, sigma, n, rng)[chosen])
        found.append(claim(chosen, lower(count, n, alpha), sigma))
    return max(found, key=lambda certificate: certificate[1])


def certify_once(f: Line, x: float, n: int, alpha: float, rng, sigma: float = 0.5) -> Claim:
    """CERTIFY without waste: the n votes that bound p_A also say which class is A."""
    counts = votes(f, x, sigma, n, rng)
    chosen = int(counts.argmax())
    return claim(chosen, lower(int(counts[chosen]), n, alpha), sigma)


def certify_soon(
    f: Line, x: float, radius: float, looks: Iterable[int], alpha: float, rng, sigma: float = 0.5
) -> Claim:
    """Votes are counted until the bound at level α says that the radius holds: why take more?"""
    chosen, needed = int(votes(f, x, sigma, FIRST, rng).argmax()), norm.cdf(radius / sigma)
    count = taken = 0
    for look in looks:  # the numbers of votes after which the bound is computed
        count, taken = count + int(votes(f, x, sigma, look - taken, rng)[chosen]), look
        if lower(count, taken, alpha) > needed:
            return chosen, radius, sigma
    return ABSTAIN, 0.0, sigma


# -- an image that is prepared first ----------------------------------------------------------


@dataclass(frozen=True)
class Preparation:
    """What is done to an image before the noise; ‖prepare(x′) − prepare(x)‖ ≤ stretch · ‖x′ − x‖ + jump, where known.

    `stretch` is infinite where no such bound exists.
    """

    name: str
    function: Callable[[np.ndarray], np.ndarray]
    stretch: float
    jump: float

    def __call__(self, image) -> np.ndarray:
        return self.function(np.asarray(image, dtype=float))


def _standardised(image: np.ndarray) -> np.ndarray:
    deviation = image.std()
    return (image - image.mean()) / (deviation if deviation > 0 else 1.0)


STEP = 0.1  # between grey levels
PREPARATIONS = {
    each.name: each
    for each in (
        Preparation("clip", lambda image: image.clip(0.0, 1.0), 1.0, 0.0),
        Preparation("normalise", lambda image: (image - 0.5) / 0.25, 4.0, 0.0),
        Preparation("grey levels", lambda image: STEP * np.round(image / STEP), 1.0, STEP * 2**0.5),  # two pixels
        Preparation("standardise", _standardised, np.inf, 0.0),
    )
}
GREY_THEN_NORMALISED = Preparation(
    "grey levels, normalised",
    lambda image: PREPARATIONS["normalise"](PREPARATIONS["grey levels"](image)),
    PREPARATIONS["normalise"].stretch,
    PREPARATIONS["normalise"].stretch * PREPARATIONS["grey levels"].jump,
)


@dataclass(frozen=True)
class Plane:
    """A base classifier of two-pixel images: class 1 where ⟨w, z⟩ > b. Its smoothing is the same, for every σ."""

    w: tuple[float, float]
    b: float

    @cached_property
    def _unit(self) -> tuple[np.ndarray, float]:
        w = np.asarray(self.w, dtype=float)
        if w.shape != (2,) or not np.isfinite([*w, self.b]).all() or not w.any():
            raise InputError(f"w, b: got {self.w} and {self.b}, expected two numbers, not both 0, and a third.")
        length = float(np.linalg.norm(w))
        return w / length, float(self.b) / length

    def distance(self, z) -> float:
        """Signed distance of the point z (2,) to the boundary: positive in class 1."""
        w, b = self._unit
        return float(w @ np.asarray(z, dtype=float) - b)

    def certificate(self, z) -> tuple[int, float]:
        """(class of g, true radius) at z; CERTIFY with infinitely many votes gives the same, for every σ."""
        distance = self.distance(z)
        return int(distance > 0), abs(distance)


def certify_prepared(f: Plane, x, prepare: Callable) -> tuple[int, float]:
    """The image is prepared, then smoothed and certified: (class, radius of the *prepared* image), claimed for x."""
    return f.certificate(prepare(x))


# -- a wrapper that looks at its batch --------------------------------------------------------


@dataclass(frozen=True)
class Exposed:
    """A wrapper that corrects the exposure: in a dark batch (mean below 0) it exchanges the classes 0 and 1 of f."""

    f: Line

    def __call__(self, points: np.ndarray) -> np.ndarray:
        classes = self.f(points)
        return 1 - classes if np.mean(points) < 0 else classes


def certify_batch(f: Callable, x: float, n: int, alpha: float, rng, sigma: float = 0.5) -> Claim:
    """CERTIFY as in notebook 02; for speed f sees all noisy copies in one batch."""
    chosen = int(votes(f, x, sigma, FIRST, rng).argmax())
    return claim(chosen, lower(int(votes(f, x, sigma, n, rng)[chosen]), n, alpha), sigma)


# -- is a certificate false, and how often? ----------------------------------------------------


@lru_cache(maxsize=1000)
def truth(cuts: tuple, classes: tuple, x: float, sigma: float) -> tuple[int, float]:
    """(class of g at x, its true radius) of `Line(cuts, classes)`, kept."""
    f = Line(cuts, classes)
    return f.prediction(x, sigma), f.true_radius(x, sigma)


def is_false(f: Line, x: float, prediction: int, radius: float, sigma: float) -> bool:
    """Does g at this σ answer otherwise at x, or at some point nearer than the radius? An abstention is never false."""
    check_positive("sigma", sigma)
    if prediction == ABSTAIN or radius <= 0:
        return False
    right, reach = truth(tuple(f.cuts), tuple(f.classes), float(x), float(sigma))
    return prediction != right or radius > reach * (1 + 1e-9) + 1e-12


def false_certificates(certify: Callable, f: Line, x: float, runs: int, seed: int = 0) -> tuple[int, int]:
    """(false, certified) of `runs` calls of certify(f, x, rng) → (prediction, radius, σ), each with new noise."""
    rng = np.random.default_rng(seed)
    found = [certify(f, x, rng) for _ in range(runs)]
    return sum(is_false(f, x, *each) for each in found), sum(each[0] != ABSTAIN for each in found)
