"""Notebook 00: the checks of its two exercises."""

from collections.abc import Callable

from scipy.stats import norm

from rslab.lectures.answers import Wrong, answer, close, compare, passed

# -- exercise 1: units ----------------------------------------------------------------------------


def unit(function: Callable) -> None:
    """Check `function(distance, low, high)` → the distance when pixels run from 0 to 1, not from low to high."""
    for distance, low, high in ((8, 0, 255), (1.2, -2, 2), (0.5, -1, 1), (0.25, 0, 1)):
        found, right = float(answer(function, distance, low, high)), distance / (high - low)
        case = f"distance {distance}, pixels from {low} to {high}: came {found:g}, expected {right:g}."
        faults = (
            (distance / 255, "Divided by 255 whatever the range."),
            ((distance - low) / (high - low), "That converts a *pixel*. In a distance the shift by `low` cancels."),
            (distance * (high - low), "Multiplied where it must be divided."),
            (distance / 256, "There are 256 levels, but 255 steps between them."),
            (distance / high, "Divided by `high`: it is the *width* of the range that counts."),
            (distance, "Nothing was converted."),
        )
        compare(found, right, faults, f"A distance shrinks as its pixel range does: {case}", case)
    passed("unit: σ, ε and R all convert like this; nothing else in the course needs it.")


# -- exercise 2: the promise ------------------------------------------------------------------------


def promise(function: Callable) -> None:
    """Check `function(p_a, sigma)` → the certified radius, 0 where nothing is promised."""
    for p_a, sigma in ((0.9, 0.25), (0.99, 1.0), (0.6, 0.5), (0.5, 0.5), (0.3, 1.0)):
        found = float(answer(function, p_a, sigma))
        quantile = float(norm.ppf(p_a))
        right = max(sigma * quantile, 0.0)
        case = f"p_A = {p_a}, σ = {sigma}: came {found:.4f}, expected {right:.4f}."
        if p_a <= 0.5 and found < 0 and not close(found, 0):
            raise Wrong(f"A radius is never negative: without a majority nothing is promised, so return 0. ({case})")
        faults = (
            (sigma * float(norm.cdf(p_a)), "Φ was used in place of its inverse: norm.ppf, not norm.cdf."),
            (quantile, "σ is missing."),
            (quantile / sigma, "Divided by σ: more noise at the same p_A promises *more*."),
            (sigma * p_a, "p_A itself was used: it must go through Φ⁻¹."),
            (sigma / 2 * quantile, "Half of it: that is the formula with p_B, without its second half."),
            (sigma**2 * quantile, "σ² appears: σ is the standard deviation."),
        )
        compare(found, right, faults, f"The radius is σ Φ⁻¹(p_A) above one half and 0 below: {case}", case)
    passed("promise: σ Φ⁻¹(p_A) with a majority, nothing without.")
