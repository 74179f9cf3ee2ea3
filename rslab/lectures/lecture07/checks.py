"""Checks of notebook 07: certified accuracy, the upper envelope, ACR, an interval for a cell."""

from collections.abc import Callable

import numpy as np
from scipy.stats import beta, norm

from rslab.lectures.answers import Wrong, answer, compare, passed, within

LABEL = np.array([3, 5, 5, 0, 7, 1, 2, 9, 4, 6])
PREDICT = np.array([3, 5, 1, 0, -1, 1, 2, 9, 4, 8])
RADIUS = np.array([0.5, 0.25, 0.9, 0.75, 0.0, 0.1, 0.5, 0.0, 0.499, 0.3])


def _compare_number(value, right: float, faults: tuple, case: str) -> None:
    try:
        value = float(value)
    except (TypeError, ValueError):
        raise Wrong(f"One number is expected, came {type(value).__name__} ({case}).") from None
    case = f"{case}: came {value:.4f}, expected {right:.4f}."
    compare(value, right, faults, case, case)


# -- exercise 1: a cell of the table ---------------------------------------------------------


def certified_accuracy(function: Callable) -> None:
    """Check `function(label, predict, radius, r)` → certified accuracy at r in %."""
    ok, certified = PREDICT == LABEL, PREDICT >= 0
    for r in (0.5, 0.25, 0.0):
        value = answer(function, LABEL.copy(), PREDICT.copy(), RADIUS.copy(), r)
        far = RADIUS >= r
        share, wrong_too = np.mean(ok & far), 100 * np.mean(certified & far)
        of_voted = 100 * np.sum(ok & far) / certified.sum()
        faults = (
            (share, "This is a share: the table is in %."),
            (wrong_too, "A wrong prediction is counted: it may be certified, but it must be correct too."),
            (
                100 * np.mean(far[ok]),
                "Divided by the correct images only: wrong ones and abstentions count as 0, in the denominator too.",
            ),
            (of_voted, "Divided by the images that got a class: an abstention is an image, too."),
            (100 * np.mean(ok & (RADIUS > r)), "A radius of exactly r is left out: the tables count radius ≥ r."),
            (100 * np.mean(ok), "This is the accuracy, whatever the radius."),
        )
        _compare_number(value, 100 * share, faults, f"ten images, r = {r}")
    passed("certified_accuracy: correct and radius ≥ r, of all images.")


# -- exercise 2: the upper envelope ----------------------------------------------------------


def envelope(function: Callable) -> None:
    """Check `function(accuracies)`: `(models, radii)` → `(radii,)`, the best model at each radius."""
    table = np.array([[80.0, 60, 20, 0], [70, 62, 40, 5], [60, 50, 39, 18], [75, 40, 39, 17]])
    value = np.asarray(answer(function, table.copy()), float)
    if value.shape != (4,):
        raise Wrong(f"Expected one number a radius, shape (4,), came shape {value.shape}.")
    three = np.asarray(answer(function, table[:3].copy()), float)
    if three.shape != (4,):
        raise Wrong("The maximum was taken over the radii: take it over the models, one number a radius.")
    right, best = table.max(0), table[table.sum(1).argmax()]
    faults = (
        (table.max(1), "The maximum was taken over the radii: take it over the models (axis 0)."),
        (best, "This is one model, the one with the largest sum: an envelope may change the model at every radius."),
        (table[0], "This is one model, the best at radius 0: an envelope may change the model at every radius."),
        (table[2], "This is one model, the best at the last radius: the model may change at every radius."),
        (table.mean(0), "This is the mean over models: an envelope is the best of them."),
        (table.argmax(0), "These are the numbers of the models, not their accuracies: max, not argmax."),
        (table.min(0), "This is the lower envelope: max, not min."),
    )
    otherwise = f"Expected {right.tolist()}, came {value.tolist()}."
    compare(value, right, faults, otherwise, same=within(1e-5, 1e-8))
    passed("envelope: at each radius the best model, and not always the same one.")


# -- exercise 3: ACR -------------------------------------------------------------------------


def acr(function: Callable) -> None:
    """Check `function(label, predict, radius)` → average certified radius over all images."""
    ok, certified = PREDICT == LABEL, PREDICT >= 0
    value = answer(function, LABEL.copy(), PREDICT.copy(), RADIUS.copy())
    total, correct, voted = RADIUS[ok].sum(), RADIUS[ok].mean(), RADIUS[certified].mean()
    faults = (
        (RADIUS.mean(), "The radius of a wrong prediction is counted: it certifies a mistake, and counts as 0."),
        (correct, "Mean over the correct images only: abstentions and mistakes count as 0, in the denominator too."),
        (voted, "Mean over the images that got a class: a mistake and an abstention both count as 0."),
        (total / certified.sum(), "Divided by the images that got a class: abstentions belong into the denominator."),
        (total, "This is the sum: divide by the number of all images."),
        (np.median(RADIUS * ok), "This is a median: ACR is a mean."),
    )
    _compare_number(value, float(np.mean(RADIUS * ok)), faults, "ten images")
    passed("acr: the mean over all images of radius, or 0 where the answer is wrong or withheld.")


# -- exercise 4: what a cell is worth --------------------------------------------------------


def cell_interval(function: Callable) -> None:
    """Check `function(count, n)` → (low, high), the 95 % Clopper–Pearson interval in %."""
    for count, n in ((50, 500), (660, 10_000), (0, 500), (500, 500)):
        given = answer(function, count, n)
        try:
            low, high = map(float, given)
        except (TypeError, ValueError):
            raise Wrong(f"Two numbers are expected, (low, high), came {given!r}.") from None
        _check_interval(low, high, count, n)
    passed("cell_interval: two tails of 2.5 % each; 0 of n and n of n have one end only.")


def _bounds(count: int, n: int, tail: float) -> np.ndarray:
    """(low, high) in %."""
    low = beta.ppf(tail, count, n - count + 1) if count else 0.0
    high = beta.ppf(1 - tail, count + 1, n - count) if count < n else 1.0
    return 100 * np.array([low, high])


def _check_interval(low: float, high: float, count: int, n: int) -> None:
    case = f"{count} of {n}"
    if low != low or high != high:
        raise Wrong(f"NaN for {case}: beta.ppf has no answer there. The end is 0 for count = 0, 100 for count = n.")
    right, narrow = _bounds(count, n, 0.025), _bounds(count, n, 0.05)
    share = count / n
    normal = 100 * (share + norm.ppf([0.025, 0.975]) * (share * (1 - share) / n) ** 0.5)
    shifted = 100 * beta.ppf([0.025, 0.975], count, n - count) if 0 < count < n else right
    faults = (
        (right / 100, "These are shares: the table is in %."),
        (narrow, "Each tail has 5 % here, together 10 %: a 95 % interval leaves 2.5 % on either side."),
        (normal, "This is the normal approximation: it collapses at 0 and n. Use the Beta quantiles of notebook 02."),
        (shifted, "A + 1 is missing in the Beta: low (count, n − count + 1), high (count + 1, n − count)."),
        (right[::-1], "The two ends are exchanged."),
    )
    otherwise = f"{case}: expected ({right[0]:.3f}, {right[1]:.3f}) %, came ({low:.3f}, {high:.3f})."
    compare((low, high), right, faults, otherwise, case, same=within(1e-6, 1e-9))
