"""Checks of notebook 04: the scaling step, the ruler of any noise, the worst half-space, the worst region."""

import math
from collections.abc import Callable

import numpy as np
import torch
from scipy.stats import laplace, norm, uniform

from rslab.lectures.answers import Wrong, answer, compare, passed, within
from rslab.lectures.lecture04.regions import fill
from rslab.smoothing.closed_forms import gaussian_expectation

# -- exercise 1: from σ = 1 to any σ ---------------------------------------------------------


def scaling(function: Callable) -> None:
    """Check `function(smooth_unit, h, x, sigma)` → H(x), using only smoothing with N(0, 1)."""

    def smooth_unit(h: Callable, x: float) -> float:
        if not callable(h):
            raise Wrong("smooth_unit wants a function and a point: the function is h̃, not a number.")
        return gaussian_expectation(h, float(x), 1.0, points=4001)

    def h(z):
        return torch.special.ndtr(3 * z - 0.9)

    for x, sigma in ((0.2, 0.5), (-0.4, 2.0)):
        _check_scaling(float(answer(function, smooth_unit, h, x, sigma)), h, smooth_unit, x, sigma)
    passed("scaling: h̃(z) = h(σz) at x/σ. Slope 1 in x/σ is slope 1/σ in x.")


def _check_scaling(value: float, h: Callable, smooth_unit: Callable, x: float, sigma: float) -> None:
    def tilde(z):  # h̃, as it should be
        return h(sigma * z)

    def inverse(z):
        return h(z / sigma)

    right = smooth_unit(tilde, x / sigma)
    faults = (
        (
            smooth_unit(inverse, sigma * x),
            "This is the lecture as printed, h(z/σ) at σx: the noise then has standard deviation 1/σ. "
            "Ask that σ·(point + Z) = x + σZ.",
        ),
        (smooth_unit(tilde, sigma * x), "h̃ is right, the point is not: σ · point must be x."),
        (smooth_unit(tilde, x), "h̃ is right, but the point was not rescaled: σ · point must be x."),
        (smooth_unit(inverse, x / sigma), "The point is right, h̃ is not: it must undo the division by σ."),
        (smooth_unit(inverse, x), "h was stretched the wrong way, and the point must be rescaled too."),
        (smooth_unit(h, x / sigma), "The point is right, but h must be rescaled with it: h̃(z) = h(…)."),
        (smooth_unit(h, x), "This smooths with σ = 1: neither h nor the point was rescaled."),
        (float(h(torch.tensor(x))), "This is h(x), not smoothed at all: call smooth_unit."),
        (sigma * right, "H̃ at the right point *is* H(x): no factor σ is left over."),
        (right / sigma, "H̃ at the right point *is* H(x): no factor 1/σ is left over."),
    )
    case = f"x = {x}, σ = {sigma}"
    otherwise = f"For {case} expected H(x) = {right:.5f}, came {value:.5f}."
    compare(value, right, faults, otherwise, f"{case}: came {value:.5f}, expected {right:.5f}.")


# -- exercise 2: the ruler of any noise ------------------------------------------------------

_CEILINGS: tuple[tuple[str, Callable, Callable], ...] = (  # c(p), and the ruler with m(½) = 0 and slope limit 1
    ("c(p) = ½", lambda p: 0.5 + 0 * p, lambda p: 2 * p - 1),
    ("the dome φ(Φ⁻¹(p))", lambda p: norm.pdf(norm.ppf(p)), norm.ppf),
    ("c(p) = p (1 − p)", lambda p: p * (1 - p), lambda p: math.log(p / (1 - p))),
    ("c(p) = √p", np.sqrt, lambda p: 2 * (math.sqrt(p) - math.sqrt(0.5))),
)


def ruler(function: Callable) -> None:
    """Check `function(ceiling, p)` → m(p): m(½) = 0, and m(H) has slopes up to 1 where those of H reach ceiling(H)."""
    for name, ceiling, right in _CEILINGS:
        for p in (0.9, 0.2):
            _check_ruler(answer(function, _within_levels(ceiling), p), ceiling, float(right(p)), p, f"{name}, p = {p}")
    passed("ruler: m′ = 1/c, and only that makes the limit the same at every level. For the dome it is Φ⁻¹.")


def _within_levels(ceiling: Callable) -> Callable:
    def asked(p):
        if np.any(np.asarray(p) <= 0) or np.any(np.asarray(p) >= 1):
            raise Wrong("The ceiling was asked at a level outside (0, 1): go from ½ to p only.")
        return ceiling(p)

    return asked


def _check_ruler(given, ceiling: Callable, right: float, p: float, case: str) -> None:
    if np.ndim(given) != 0:
        raise Wrong(f"Return one number, m(p); came an array of shape {np.shape(given)}. (`quad` returns two numbers.)")
    levels = np.linspace(0.5, p, 20_001)
    middle = float(np.mean(ceiling((levels[1:] + levels[:-1]) / 2)) * (p - 0.5))
    height = float(ceiling(p))
    faults = (
        (-right, "The sign is turned: m must increase, so it is negative below ½."),
        (middle, "The ceiling itself was summed. Chain rule: m(H) has slope m′(H) · H′, so m′ must be 1/c."),
        (height, "This is the ceiling at p. Wanted is the ruler on which it becomes flat."),
        (1 / height, "This is m′(p), the slope of the ruler at p: sum it from ½ to p."),
        ((p - 0.5) / height, "The ceiling is not the same all the way from ½ to p: sum 1/c(q) over q."),
        ((p - 0.5) * height, "Multiplied by the ceiling at p; m′ is one over the ceiling, summed from ½ to p."),
        (float(norm.ppf(p)), "This is Φ⁻¹, which is the ruler of the Gaussian's ceiling only."),
        (p - 0.5, "This ruler is linear: it ignores the ceiling."),
        (right + 2 * math.sqrt(0.5), "m(½) must be 0: begin at ½."),
        (2 * p, "m(½) must be 0: begin at ½."),
    )
    otherwise = f"For {case} expected m(p) = {right:.5f}, came {float(given):.5f}."
    compare(float(given), right, faults, otherwise, case, within(relative=1e-3, absolute=1e-4))


# -- exercise 3: the worst classifier ---------------------------------------------------------


def worst_case(function: Callable) -> None:
    """Check `function(x, delta, p_a, sigma)` → f, with f(z) `(N, d)` → booleans `(N,)`: whether z is A."""
    rng = np.random.default_rng(0)
    cases = (
        (np.array([0.5, -0.3]), np.array([0.4, 0.3]), 0.9, 0.25),
        (np.array([0.2, 0.9, -0.4]), np.array([-1.0, 2.0, 2.0]), 0.75, 1.5),
        (np.array([-0.8, 0.1]), np.array([0.0, 0.3]), 0.6, 0.5),
    )
    for x, delta, p_a, sigma in cases:
        points = x + 2.5 * sigma * rng.normal(size=(4000, len(x)))
        case = f"x = {x.tolist()}, δ = {delta.tolist()}, p_A = {p_a}, σ = {sigma}"
        _check_worst(answer(function, x.copy(), delta.copy(), p_a, sigma), points, x, delta, p_a, sigma, case)
    passed("worst_case: probability p_A at x, Φ(Φ⁻¹(p_A) − ‖δ‖/σ) at x + δ, and no classifier has less.")


def _check_worst(classifier, points, x, delta, p_a: float, sigma: float, case: str) -> None:
    if not callable(classifier):
        raise Wrong("Return a function of points (the inner `classifier`), not its values.")
    given = np.asarray(answer(classifier, points.copy()))
    if given.shape != (len(points),):
        raise Wrong(f"The classifier gave shape {given.shape}, expected one answer a point, {(len(points),)}.")
    given = given.astype(bool)
    length, quantile = float(np.linalg.norm(delta)), float(norm.ppf(p_a))
    along = (points - x) @ delta  # (N,)

    def same(given: np.ndarray, region: np.ndarray) -> bool:
        return bool(np.mean(given == region) > 0.9995)

    edge = sigma * length * quantile
    faults = (
        (along > edge, "This is the complement: A holds 1 − p_A at x. A is where ⟨δ, z − x⟩ is *at most* the edge."),
        (along >= -edge, "Right probability at x, wrong side: A must lie away from δ, so that moving by δ loses it."),
        (along <= -edge, "The sign of Φ⁻¹(p_A) is turned: A then has probability 1 − p_A at x."),
        (along <= sigma * quantile, "‖δ‖ is missing at the edge: ⟨δ, noise⟩ has standard deviation σ‖δ‖."),
        (along <= length * quantile, "σ is missing at the edge: ⟨δ, noise⟩ has standard deviation σ‖δ‖."),
        (along <= quantile, "σ‖δ‖ is missing at the edge: that is the standard deviation of ⟨δ, noise⟩."),
        (along <= sigma * length * p_a, "p_A was used in place of Φ⁻¹(p_A): a probability is no place on the line."),
        (along <= sigma * length * norm.cdf(p_a), "Φ was used in place of its inverse: norm.ppf, not norm.cdf."),
        (along <= sigma**2 * length * quantile, "σ² at the edge: the standard deviation of ⟨δ, noise⟩ is σ‖δ‖."),
        (points @ delta <= edge, "Not centred: the half-space must be placed around x, ⟨δ, z − x⟩."),
        ((points - x - delta) @ delta <= edge, "Centred at x + δ: p_A is what the classifier has at x."),
    )
    share = f"{np.mean(given != (along <= edge)):.0%} of the test points get the wrong answer"
    otherwise = f"For {case} {share}: A is where ⟨δ, z − x⟩ ≤ σ‖δ‖Φ⁻¹(p_A)."
    compare(given, along <= edge, faults, otherwise, case, same)


# -- exercise 4: the worst region for any noise ---------------------------------------------------


def worst_region(function: Callable) -> None:
    """Check `function(at_x, at_moved, p_a)` → f `(N,)` in [0, 1]: the share of each cell that is A.

    at_x, at_moved: mass of each cell under the noise around x and around x + δ, `(N,)`. The worst f holds p_a at
    x and least at x + δ.
    """
    for name, at_x, at_moved, p_a in _noises():
        case = f"{name}, p_A = {p_a:g}"
        given = np.asarray(answer(function, at_x.copy(), at_moved.copy(), p_a))
        _check_region(given, at_x, at_moved, p_a, case)
    passed("worst_region: mass p_A at x, and no other region keeps less at x + δ, whatever the noise.")


def _noises() -> list[tuple[str, np.ndarray, np.ndarray, float]]:
    """Cells of the line under several noises: (name, masses at x, masses at x + δ, p_A)."""
    edges = np.linspace(-6, 6, 121)

    def masses(cdf: Callable, centre: float) -> np.ndarray:
        return np.diff(cdf(edges - centre), prepend=0.0, append=1.0)

    def two_humps(z):
        return 0.5 * norm.cdf((z + 2) / 0.4) + 0.5 * norm.cdf((z - 2) / 0.4)

    return [
        ("Gaussian noise, δ = 1", masses(norm.cdf, 0), masses(norm.cdf, 1), 0.8),
        ("Gaussian noise, δ = −0.7", masses(norm.cdf, 0), masses(norm.cdf, -0.7), 0.625),
        ("Laplace noise, δ = 0.9", masses(laplace.cdf, 0), masses(laplace.cdf, 0.9), 0.75),
        ("noise with two humps, δ = 1.5", masses(two_humps, 0), masses(two_humps, 1.5), 0.7),
        ("uniform noise on [−3, 3], δ = 2", masses(uniform(-3, 6).cdf, 0), masses(uniform(-3, 6).cdf, 2), 0.6),
    ]


def _check_region(given: np.ndarray, at_x: np.ndarray, at_moved: np.ndarray, p_a: float, case: str) -> None:
    if given.shape != at_x.shape:
        raise Wrong(f"Return one number per cell, shape {at_x.shape}; came shape {given.shape}. ({case})")
    given = given.astype(float)
    if np.isnan(given).any():
        raise Wrong(f"There is a NaN: some cells have no mass at x, and 0 / 0 is not a number. ({case})")
    if given.min() < -1e-9 or given.max() > 1 + 1e-9:
        raise Wrong(f"f must lie in [0, 1]; yours goes from {given.min():.3g} to {given.max():.3g}. ({case})")
    held, kept = float(given @ at_x), float(given @ at_moved)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(at_x > 0, at_moved / at_x, np.inf)
    best = fill(np.argsort(ratio, kind="stable"), at_x, p_a)
    least = float(best @ at_moved)
    cell = at_x.max()
    if abs(held - p_a) > 1e-9:
        if p_a < held < p_a + cell:
            raise Wrong(f"A holds {held:.4f} at x, more than p_A: take only a part of the last cell. ({case})")
        if p_a - cell < held < p_a:
            raise Wrong(f"A holds {held:.4f} at x, less than p_A: a part of the next cell is missing. ({case})")
        if abs(held - (1 - p_a)) < 1e-9:
            raise Wrong(f"A holds 1 − p_A at x: this is the complement. ({case})")
        raise Wrong(f"A holds {held:.4f} at x, expected exactly p_A = {p_a:g}. ({case})")
    orders = (
        (at_moved, "Cells were taken cheapest first. A cell that costs little may also hold little: use the ratio."),
        (-at_x, "Cells were taken largest first, without a look at what they cost at x + δ: use the ratio."),
        (at_moved - at_x, "Cells were ordered by price minus gain. What matters is the price *per* gain: the ratio."),
        (
            np.arange(len(at_x)),
            "Cells were filled from left to right. That is right for Gaussian noise and δ > 0 only: sort by the ratio.",
        ),
        (
            -ratio,
            "The ratio is turned over: these are the most expensive cells per mass, the best f in place of the worst.",
        ),
    )
    faults = [(float(fill(np.argsort(key, kind="stable"), at_x, p_a) @ at_moved), said) for key, said in orders]
    if kept > least + 1e-9 and (given[at_x == 0] * at_moved[at_x == 0]).sum() > 1e-9:
        raise Wrong(f"Cells without mass at x were taken: they gain nothing and cost something. ({case})")
    otherwise = f"For {case} your region keeps {kept:.4f} at x + δ, and there is one that keeps {least:.4f}."
    compare(kept, least, faults, otherwise, case)
