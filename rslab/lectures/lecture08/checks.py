"""Checks of notebook 08: looking early, several radii from one run, ℓ∞ through ℓ2."""

import math
import operator
from collections.abc import Callable

import numpy as np
from scipy.stats import beta, norm

from rslab.lectures.answers import Wrong, answer, compare, passed

# -- exercise 1: looks that may be believed ------------------------------------------------------


def _first(counts, looks, threshold: float, alphas: np.ndarray) -> int:
    for k, (count, n, alpha) in enumerate(zip(counts, looks, alphas, strict=True)):
        if count and beta.ppf(alpha, count, n - count + 1) > threshold:
            return k
    return -1


def early_stop(function: Callable) -> None:
    """Check `function(counts, looks, threshold, alpha)` → number of the first look that certifies, or −1.

    `counts` are cumulative votes for the class after `looks` votes; a union bound over the looks is asked for.
    """
    looks = (100, 200, 400, 800, 1600)
    cases = (
        ((84, 165, 324, 637, 1257), 0.75, 0.01),  # every usual mistake gives another number
        ((69, 150, 300, 600, 1200), 0.5, 0.001),
        ((60, 110, 215, 420, 830), 0.5, 0.001),
        ((100, 200, 400, 800, 1600), 0.97, 0.001),
        ((0, 0, 0, 0, 0), 0.5, 0.05),
    )
    for counts, threshold, alpha in cases:
        given = answer(function, list(counts), list(looks), threshold, alpha)
        if isinstance(given, bool | np.bool_) or not isinstance(given, int | np.integer):
            raise Wrong(f"Return the number of a look, 0 … {len(looks) - 1}, or −1; came {given!r}.")
        whole = np.full(5, alpha)  # α at each of the five looks
        right = _first(counts, looks, threshold, whole / 5)
        peeking = _first(counts, looks, threshold, whole)
        harmonic = _first(counts, looks, threshold, whole / (1 + np.arange(5)))
        afresh = _first(np.diff(counts, prepend=0), np.diff(looks, prepend=0), threshold, whole / 5)
        share = next((k for k in range(5) if counts[k] / looks[k] > threshold), -1)
        last = 4 if _first(counts[4:], looks[4:], threshold, whole[4:]) == 0 else -1
        faults = (
            (peeking, "This spends α at every look: K looks, K chances to be wrong. Give each look α / K."),
            (harmonic, "α was divided by the number of the look: 1 + ½ + ⅓ … of α is more than α. Divide by K."),
            (afresh, "Only the new votes of a look were used: `counts` and `looks` are cumulative already."),
            (share, "The share of votes was compared with the threshold: it needs the lower bound."),
            (last, "The last look alone was used: stop at the first that certifies."),
        )
        case = f"counts {counts}, threshold {threshold}, α = {alpha}: came {given}, expected {right}."
        compare(given, right, faults, case, case, same=operator.eq)
    passed("early_stop: α / K at each of K looks, on all votes so far, first success wins.")


# -- exercise 2: one run, several radii -----------------------------------------------------------


def ordered(function: Callable) -> None:
    """Check `function(radii, passed)` → the certified radius: the largest before the first that did not pass."""
    cases = (
        ((0.25, 0.5, 0.75, 1.0, 1.25), (True, True, False, True, True)),  # every usual mistake gives another number
        ((0.25, 0.5, 0.75), (False, True, True)),
        ((0.25, 0.5, 0.75), (True, True, True)),
        ((0.25, 0.5), (False, False)),
        ((0.25, 0.5, 1.0, 1.5), (True, False, True, True)),
    )
    for radii, flags in cases:
        value = float(answer(function, list(radii), list(flags)))
        number = flags.index(False) if False in flags else len(flags)
        right = radii[number - 1] if number else 0.0
        marked = [r for r, flag in zip(radii, flags, strict=True) if flag]
        place = radii[len(marked) - 1] if marked else 0.0
        faults = (
            (
                max(marked, default=0.0),
                "This is the largest radius that passed. With each test at the full α it holds only if all smaller "
                "ones passed too: stop at the first that did not.",
            ),
            (place, "This is how many passed, used as a place: stop at the first that did not."),
            (radii[min(number, len(radii) - 1)], "This is the first radius that did *not* pass: one step too far."),
            (min(marked, default=0.0), "This is the first radius that passed: go on while they pass."),
            (number, "This is a number of radii, not a radius."),
        )
        case = f"radii {radii}, passed {flags}: came {value:g}, expected {right:g}."
        compare(value, right, faults, case, case)
    passed("ordered: the radii in order, each at the full α, up to the first that fails.")


# -- exercise 3: ℓ∞ through ℓ2 ---------------------------------------------------------------------


def needed_probability(function: Callable) -> None:
    """Check `function(epsilon, d, sigma)` → the p_A that certifies ℓ∞ radius ε for images of d numbers."""
    for epsilon, d, sigma in ((2 / 255, 3072, 0.25), (8 / 255, 784, 0.5), (0.1, 64, 1.0)):
        value = float(answer(function, epsilon, d, sigma))
        radius = epsilon * math.sqrt(d)  # in ℓ2
        right = float(norm.cdf(radius / sigma))
        faults = (
            (norm.cdf(epsilon / sigma), "d was left out: the corner of the ℓ∞ ball is √d times as far as its face."),
            (
                norm.cdf(radius / d / sigma),
                "Divided by √d: an ℓ2 ball that *contains* the ℓ∞ ball must reach its corners.",
            ),
            (norm.cdf(epsilon * d / sigma), "d in place of √d: the corner (ε, …, ε) has ℓ2 length ε√d."),
            (norm.cdf(radius / 255 / sigma), "ε is in [0, 1] units already: no division by 255."),
            (norm.cdf(radius * 255 / sigma), "ε was given in [0, 1] units: no multiplication by 255."),
            (radius, "This is the ℓ2 radius that is needed, not yet the probability: R = σΦ⁻¹(p_A)."),
            (radius / sigma, "R/σ is a quantile, not a probability: one Φ is missing."),
            (norm.cdf(radius), "σ is missing: R = σΦ⁻¹(p_A)."),
            (norm.cdf(radius * sigma), "σ is on the wrong side: Φ⁻¹(p_A) = R / σ."),
        )
        case = f"ε = {epsilon:.4f}, d = {d}, σ = {sigma}: came {value:.6f}, expected {right:.6f}."
        compare(value, right, faults, case, case)
    passed("needed_probability: Φ(ε√d/σ). For 8/255 on CIFAR-10 at σ = 0.25 that is one minus 10⁻¹².")
