"""Checks of notebook 03: Stein's estimator, antithetic pairs, the variance against d, a jump without a slope."""

import math
from collections.abc import Callable, Sequence

import torch
from scipy.stats import norm
from torch import Tensor

from rslab.lectures.answers import Wrong, answer, compare, passed, within
from rslab.lectures.spies import Spy

_same = within(1e-5, 1e-8)


def _h(points: Tensor) -> Tensor:
    """A bounded function `(N, d)` → `(N,)`."""
    return 0.5 * torch.sigmoid(3 * points[:, 0]) + 0.3 * (points[:, 1] > 0.4)


def _run(function: Callable, h: Callable, x: Tensor, sigma: float, n: int) -> tuple[Tensor, Tensor]:
    """The gradient `(d,)` that came, and the points `(N, d)` at which h was asked."""
    spy = Spy(h, (None,), "h was called with shape {shape}: it wants (N, d).")
    result = answer(function, spy, x.clone(), sigma, n, torch.Generator().manual_seed(3))
    if not isinstance(result, Tensor) or result.shape != x.shape:
        shape = tuple(getattr(result, "shape", ()))
        raise Wrong(f"The gradient has shape {shape}, expected that of x, {tuple(x.shape)}: the mean over the samples.")
    return result.detach(), spy.seen("h was never called: the gradient comes from its values at noisy points.")


def _check_noise(noise: Tensor, sigma: float) -> None:
    if float(noise.abs().max()) == 0:
        raise Wrong("h was only asked at x itself: ask it at x + δ.")
    if torch.equal(noise, noise[:1].expand_as(noise)):
        raise Wrong("All samples carry the same noise: draw n of them, shape (n, d).")
    spread = float(noise.std())
    faults = (
        (1.0, "The noise has standard deviation 1: multiply it by σ."),
        (sigma**2, "The noise has standard deviation σ²: σ itself is the standard deviation."),
    )
    otherwise = f"The noise has standard deviation {spread:.3g}, expected σ = {sigma:g}."
    compare(spread, sigma, faults, otherwise, same=within(0.05))


# -- exercise 1 ----------------------------------------------------------------------


def stein(function: Callable) -> None:
    """Check `function(h, x, sigma, n, generator)` → the estimate of ∇H(x), `(d,)`; h maps `(N, d)` to `(N,)`."""
    x, sigma, n = torch.tensor([0.3, -0.2, 0.5], dtype=torch.float64), 0.4, 2000
    result, points = _run(function, _h, x, sigma, n)
    if len(points) > n:  # a baseline such as h(x), or pairs: welcome, but not asked for here
        points = points[-n:] if len(points) == n + 1 else points[:n]
    if len(points) != n:
        raise Wrong(f"h was asked at {len(points)} points, expected n = {n}: one fresh noise a sample.")
    noise = points - x
    _check_noise(noise, sigma)
    value = _h(points)
    right = (noise * value[:, None]).mean(0) / sigma**2
    faults = (
        (right * sigma**2, "1/σ² is missing: E[δ h(x + δ)] is σ² times the gradient."),
        (right * sigma, "Divided by σ, not by σ²: the 1/σ form belongs to *standard* normal noise z = δ/σ."),
        (right / sigma, "Divided by σ³: with δ = σz in front of h, the factor is 1/σ²."),
        (-right, "The sign is turned: h is asked at x + δ and multiplied by +δ."),
        (right * n, "The sum was returned: take the mean over the samples."),
        ((points * value[:, None]).mean(0) / sigma**2, "h was multiplied by x + δ: multiply it by δ alone."),
        (value.mean() * noise.mean(0) / sigma**2, "The means were taken first: average the products."),
    )
    otherwise = f"Expected the mean of δ · h(x + δ)/σ², {right.tolist()}, came {result.tolist()}."
    if float((result - right).norm()) > 0.5 * float(right.norm()):
        otherwise = "Not the mean of δ · h(x + δ)/σ²: is each value multiplied by the *same* δ at which h was asked?"
    baseline = (noise * (value - _h(x[None]))[:, None]).mean(0) / sigma**2
    if not _same(result, baseline):  # h(x) may be subtracted: the mean is the same
        compare(result, right, faults, otherwise, same=_same)
    passed("stein: the mean of δ · h(x + δ)/σ², from values of h alone.")


# -- exercise 2 ----------------------------------------------------------------------


def antithetic(function: Callable) -> None:
    """Check `function(h, x, sigma, n, generator)` → ∇H(x) from n pairs x + δ, x − δ, `(d,)`."""
    x, sigma, n = torch.tensor([0.3, -0.2, 0.5], dtype=torch.float64), 0.4, 1000

    def h(points: Tensor) -> Tensor:
        return _h(points) + 100

    result, points = _run(function, h, x, sigma, n)
    noise = points - x
    if len(noise) == n:
        raise Wrong(f"h was asked at {n} points: a pair has two, x + δ and x − δ, with the same δ.")
    if len(noise) != 2 * n:
        raise Wrong(f"h was asked at {len(noise)} points, expected 2n = {2 * n}: n pairs.")
    plus, minus = noise[:n], noise[n:]
    if not _same(plus, -minus):
        plus, minus = noise[0::2], noise[1::2]
        if not _same(plus, -minus):
            if len(torch.unique(noise[n:], dim=0)) == 1:
                raise Wrong("h(x) was subtracted: a good baseline, but a pair is x + δ and x − δ.")
            raise Wrong("The two halves have different noise: a pair is x + δ and x − δ with the *same* δ.")
    _check_noise(plus, sigma)
    above, below = h(x + plus), h(x + minus)
    right = (plus * (above - below)[:, None]).mean(0) / (2 * sigma**2)
    added = (plus * (above + below)[:, None]).mean(0) / (2 * sigma**2)
    faults = (
        (2 * right, "Twice too large: each pair is the mean of *two* Stein terms, so divide by 2σ²."),
        (right * sigma**2, "1/σ² is missing."),
        (2 * right * sigma**2, "1/σ² is missing, and the ½ of a pair."),
        (-right, "The sign is turned: δ · (h(x + δ) − h(x − δ))."),
        (added, "The two values were added: −δ · h(x − δ) has a minus."),
        (2 * added, "The two values were added: −δ · h(x − δ) has a minus."),
        (right * n, "The sum was returned: take the mean over the pairs."),
    )
    otherwise = f"Expected the mean of δ (h(x + δ) − h(x − δ)) / 2σ², {right.tolist()}, came {result.tolist()}."
    compare(result, right, faults, otherwise, same=_same)
    passed("antithetic: a constant of 100 in h left no trace.")


# -- exercise 3 ----------------------------------------------------------------------


def variance(function: Callable) -> None:
    """Check `function(d, sigma)` → total variance of one plain sample for h = 1[x₁ > 0] at x = 0."""
    for d, sigma in ((1, 0.7), (10, 0.7), (100, 0.25), (3072, 2.0)):
        _check_variance(float(answer(function, d, sigma)), d, sigma)
    passed("variance: (d/2 − 1/2π)/σ². It grows with d; the squared gradient, 1/(2πσ²), does not.")


def _check_variance(value: float, d: int, sigma: float) -> None:
    slope = 1 / (2 * math.pi)  # squared, and times σ²
    right = (d / 2 - slope) / sigma**2
    faults = (
        (d / 2 / sigma**2, "The squared mean is missing: Var = E[…²] − (E[…])², and the mean is the gradient."),
        ((d - slope) / sigma**2, "h² = h has mean ½: only half of the noises contribute."),
        (d / 2 - slope, "σ is missing: each component is δᵢ h/σ², and δᵢ² has mean σ²."),
        ((d / 2 - slope) * sigma**2, "1/σ² of the estimator is squared in its variance: σ²/σ⁴ = 1/σ²."),
        ((d / 2 - d * slope) / sigma**2, "The gradient has one component that is not 0: subtract 1/(2πσ²) once."),
        ((d / 4 - slope) / sigma**2, "This is the variance with the baseline ½; here there is none."),
        ((0.5 - slope) / sigma**2, "This is the first component alone: add all d of them."),
    )
    case = f"d = {d}, σ = {sigma}"
    otherwise = f"For {case} expected {right:.5g}, came {value:.5g}. Start from E[δᵢ² h²]/σ⁴."
    compare(value, right, faults, otherwise, f"{case}: came {value:.5g}.")


# -- exercise 4 ----------------------------------------------------------------------

NARROWEST = 0.25  # of a piece of h, in units of σ: else a hairline beside 0 would do


def hidden_jump(function: Callable) -> None:
    """Check `function(sigma)` → (edges, first): h is `first` at the far left and flips between 0 and 1 at each edge.

    At most three edges, one of them 0, where h goes up; H′(0) = 0.
    """
    for sigma in (0.5, 2.0, 0.12):
        edges, first = _read_steps(answer(function, sigma))
        _check_steps(edges, first, sigma)
        slope = _slope_at_zero(edges, first, sigma)
        if abs(slope) > 1e-6:
            raise Wrong(_why_a_slope(edges, first, sigma, slope))
    passed("hidden_jump: h jumps from 0 to 1 at 0, and H′(0) = 0. A flat H does not mean a calm h.")


def _read_steps(result) -> tuple[list[float], int]:
    try:
        edges, first = result
        edges, first = [float(edge) for edge in edges], float(first)
    except (TypeError, ValueError) as error:
        raise Wrong("Return two things: a list of increasing edges, and the value (0 or 1) at the far left.") from error
    if first not in (0, 1):
        raise Wrong(f"h is {first:g} at the far left: its values are 0 and 1.")
    return edges, int(first)


def _check_steps(edges: Sequence[float], first: int, sigma: float) -> None:
    """Everything that is asked but for the slope."""
    case = f"σ = {sigma}: edges {[round(edge, 4) for edge in edges]}, {first} at the far left"
    if len(edges) > 3:
        raise Wrong(f"These are {len(edges)} edges: three are enough. ({case})")
    if not all(math.isfinite(edge) for edge in edges) or any(b <= a for a, b in zip(edges, edges[1:], strict=False)):
        raise Wrong(f"The edges must be finite and increase from left to right. ({case})")
    if min((abs(edge) for edge in edges), default=1.0) > 1e-9 * sigma:
        raise Wrong(f"There is no edge at 0: the jump must be where the slope is asked. ({case})")
    at_zero = min(range(len(edges)), key=lambda number: abs(edges[number]))
    if (first + at_zero) % 2:
        raise Wrong(f"h goes down at 0: it must go up, from 0 to 1. ({case})")
    if any(b - a < NARROWEST * sigma for a, b in zip(edges, edges[1:], strict=False)):
        raise Wrong(f"Two edges are closer than σ/4: make each piece at least that wide. ({case})")


def _slope_at_zero(edges: Sequence[float], first: int, sigma: float) -> float:
    """σ · H′(0), exactly: each edge adds its jump, up or down, times the density of the noise there."""
    up = 1 - 2 * first
    return sum(up * (-1) ** number * float(norm.pdf(edge / sigma)) for number, edge in enumerate(edges))


def _why_a_slope(edges: Sequence[float], first: int, sigma: float, slope: float) -> str:
    """The sentence about edges that are well formed but leave a slope."""
    came = f"σ = {sigma}: H′(0) = {slope / sigma:.4f}"
    if len(edges) == 1:
        return f"One edge alone is a half-space, and at its edge no function is steeper. ({came})"
    if len(edges) == 2:
        return f"Two edges cannot do it: the density at the other edge is smaller than at 0, so a rest stays. ({came})"
    for scale, said in (
        (sigma, "These edges are right for σ = 1: multiply them by σ."),
        (1 / sigma, "These edges scale with σ²: σ itself is the standard deviation."),
    ):
        if abs(_slope_at_zero([scale * edge for edge in edges], first, sigma)) < 1e-6:
            return f"{said} ({came})"
    left, _, right = (float(norm.cdf(edge / sigma)) for edge in edges)
    if abs(edges[1]) <= 1e-9 * sigma and abs(left - (right - 0.5)) < 1e-6:
        return f"This balances the *masses* on both sides. Stein weighs each noise by δ: balance E[δ h(δ)]. ({came})"
    return (
        f"A slope stays. The edge at 0 adds φ(0)/σ = {norm.pdf(0) / sigma:.4f}; "
        f"the other edges must take away as much. ({came})"
    )
