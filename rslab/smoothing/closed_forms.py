"""Classifiers whose smoothing is known in closed form, and Stein's identity.

Each classifier below is an ordinary base classifier (images `(B, C, H, W)` to
logits `(B, 2)`, class 1 inside) and also knows the truth that Monte Carlo can only
estimate: the probability of class 1 under noise, and the distance at which the
smoothed prediction really changes. One half-space serves the tests of bounds,
smoothing and attacks alike: certified radius ≤ true distance ≤ attack's distance.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from scipy.optimize import brentq
from scipy.stats import ncx2, norm
from torch import Tensor

from rslab.errors import check_at_least, check_positive


def _two_logits(score: Tensor) -> Tensor:
    """(B,) scores → (B, 2) logits whose argmax is 1 exactly where the score is positive."""
    return torch.stack((-score, score), dim=1)


@dataclass(frozen=True)
class Halfspace:
    """Class 1 where ⟨w, x⟩ + b > 0. Its smoothing is the same half-space, for every σ.

    Source: lecture 14, half-space ℓ; slides, worst-case classifier.
    """

    normal: Tensor  # (d,)
    bias: float

    def __call__(self, x: Tensor) -> Tensor:
        return _two_logits(x.flatten(1) @ self.normal.to(x) + self.bias)

    def distance(self, x: Tensor) -> Tensor:
        """(B, …) → (B,): signed distance to the boundary, positive in class 1."""
        return (x.flatten(1) @ self.normal.to(x) + self.bias) / self.normal.norm().to(x)

    def probability(self, x: Tensor, sigma: float) -> Tensor:
        """P(class 1 at x + δ) = Φ(distance / σ). Source: slides, worst-case probability."""
        return torch.special.ndtr(self.distance(x) / sigma)


@dataclass(frozen=True)
class Interval:
    """Class 1 where |x| < half_width, x one number."""

    half_width: float = 1.0

    def __call__(self, x: Tensor) -> Tensor:
        return _two_logits(self.half_width - x.flatten(1)[:, 0].abs())

    def probability(self, x: float, sigma: float) -> float:
        """P(class 1 at x + δ) = Φ((w − x)/σ) − Φ((−w − x)/σ)."""
        return float(norm.cdf((self.half_width - x) / sigma) - norm.cdf((-self.half_width - x) / sigma))

    def true_radius(self, sigma: float) -> float:
        """Distance from 0 to where the smoothed vote changes; 0 if it is class 0 at 0 already."""
        return _first_half(lambda r: self.probability(r, sigma), sigma)


@dataclass(frozen=True)
class Ball:
    """Class 1 where ‖x‖ < radius in d dimensions."""

    radius: float
    dimension: int

    def __call__(self, x: Tensor) -> Tensor:
        return _two_logits(self.radius - x.flatten(1).norm(dim=1))

    def probability(self, distance: float, sigma: float) -> float:
        """P(class 1 at x + δ) for ‖x‖ = distance: a non-central χ² with d degrees."""
        return float(ncx2.cdf((self.radius / sigma) ** 2, self.dimension, (distance / sigma) ** 2))

    def true_radius(self, sigma: float) -> float:
        """Distance from the centre to where the smoothed vote changes."""
        return _first_half(lambda r: self.probability(r, sigma), sigma)


def _first_half(probability: Callable[[float], float], sigma: float) -> float:
    """The r at which a decreasing probability(r) falls to ½."""
    check_positive("sigma", sigma)
    if probability(0.0) <= 0.5:
        return 0.0
    high = sigma
    while probability(high) > 0.5:
        high *= 2
    return float(brentq(lambda r: probability(r) - 0.5, 0.0, high, xtol=1e-12))


@dataclass(frozen=True)
class StepClassifier:
    """F_y on the line, constant between `edges`: G_y and both objectives are sums of Φ's.

    values[i] holds from edges[i − 1] to edges[i]; class 1 is y, its base classifier F.
    """

    edges: tuple[float, ...]
    values: tuple[float, ...]  # one more than the edges, in (0, 1)

    def __call__(self, x: Tensor) -> Tensor:
        values = torch.tensor(self.values, dtype=x.dtype)
        place = torch.bucketize(x.flatten(1)[:, 0].contiguous(), torch.tensor(self.edges, dtype=x.dtype))
        return torch.stack((torch.log1p(-values), values.log()), 1)[place]

    def _expectation(self, values, x: float, sigma: float) -> float:
        below = norm.cdf([(edge - x) / sigma for edge in self.edges])
        return float(sum(v * (b - a) for v, a, b in zip(values, (0, *below), (*below, 1), strict=True)))

    def _slope(self, values, x: float, sigma: float) -> float:
        density = norm.pdf([(edge - x) / sigma for edge in self.edges]) / sigma
        return float(sum(d * (b - a) for d, a, b in zip(density, values, values[1:], strict=False)))

    def probability(self, x: float, sigma: float) -> float:
        """G_y(x) = E F_y(x + δ). Source: lecture 14, (1); blog, soft classifier G."""
        return self._expectation(self.values, x, sigma)

    def vote(self, x: float, sigma: float) -> float:
        """P(F_y(x + δ) > ½), the probability that the hard f answers y."""
        return self._expectation([float(v > 0.5) for v in self.values], x, sigma)

    def naive_loss(self, x: float, sigma: float) -> float:
        """E[−log F_y(x + δ)]; SmoothAdv's loss is −log of `probability`."""
        return self._expectation([-math.log(v) for v in self.values], x, sigma)

    def naive_slope(self, x: float, sigma: float) -> float:
        """d/dx of the naive loss E[−log F_y(x + δ)]."""
        return self._slope([-math.log(v) for v in self.values], x, sigma)

    def smoothadv_slope(self, x: float, sigma: float) -> float:
        """d/dx of SmoothAdv's loss −log E[F_y(x + δ)]."""
        return -self._slope(self.values, x, sigma) / self.probability(x, sigma)


# A narrow region of confident error at −0.6, a wide one of mild error right of 0.5. Seen
# from 0 the naive objective is drawn to the first, where G rises; SmoothAdv to the second.
STEP_TOY = StepClassifier(edges=(-0.7, -0.5, 0.5), values=(0.99, 1e-9, 0.99, 0.05))


@dataclass(frozen=True)
class SmoothToy:
    """The same trap with a gradient: log-odds z = lg .99 − A e^{−((t + .7)/.06)²/2} − B s((⟨u, x⟩ − .25)/.1).

    t is the first coordinate, u the unit vector at `angle` degrees from its axis (not used in
    one dimension), s the sigmoid; A and B bring F_y down to 1e-12 and 0.1. Logits are (0, z).
    """

    angle: float = 0.0

    def __call__(self, x: Tensor) -> Tensor:
        flat = x.flatten(1)
        t, along = flat[:, 0], flat[:, 0]
        if flat.shape[1] > 1:
            turn = math.radians(self.angle)
            along = math.cos(turn) * t + math.sin(turn) * flat[:, 1]
        top, narrow, wide = (math.log(p / (1 - p)) for p in (0.99, 1e-12, 0.1))
        z = top - (top - narrow) * torch.exp(-(((t + 0.7) / 0.06) ** 2) / 2)
        z = z - (top - wide) * torch.sigmoid((along - 0.25) / 0.1)
        return torch.stack((torch.zeros_like(z), z), dim=1)


def stein_gradient(
    h: Callable[[Tensor], Tensor],
    x: Tensor,
    sigma: float,
    samples: int,
    *,
    antithetic: bool = False,
    generator: torch.Generator | None = None,
) -> Tensor:
    """∇H(x) for H = h ∗ N(0, σ²I) from values of h alone.

    ∇H(x) = E[δ h(x + δ)] / σ², δ ~ N(0, σ²I), for bounded measurable h: no
    derivative of h is needed, a step function will do. `h` maps `(N, d)` to
    `(N,)`, `x` is `(d,)`, the result `(d,)`. `antithetic` uses δ and −δ in pairs
    (`samples` pairs), which removes the variance of the constant part of h. The
    variance grows with d either way.

    Source: lecture 14, Lemma 2.3.
    """
    check_positive("sigma", sigma)
    check_at_least("samples", samples, 1)
    noise = torch.randn(samples, *x.shape, dtype=x.dtype, generator=generator) * sigma
    values = h(x + noise)
    if antithetic:
        values = (values - h(x - noise)) / 2
    return (noise * values[:, None]).mean(0) / sigma**2


def gaussian_expectation(h: Callable[[Tensor], Tensor], x: float, sigma: float, points: int = 20_001) -> float:
    """E h(x + δ), δ ~ N(0, σ²), in one dimension by the trapezium rule on ±10σ.

    Steps of h cost an error of at most one cell's mass (below 4·10⁻⁴ at 20,001 points).

    Source: lecture 14, (1).
    """
    check_positive("sigma", sigma)
    z = torch.linspace(-10, 10, points, dtype=torch.float64)
    density = torch.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    return float(torch.trapezoid(h(x + sigma * z) * density, z))
