"""Checks of notebook 07: certified accuracy, a row chosen and reported on different images, ACR, an interval."""

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


# -- exercise 2: a row, chosen on some images and reported on the others ------------------------


def honest_row(function: Callable) -> None:
    """Check `function(radius, radii, choosing)`: models × images → one number a radius, in %.

    `radius` is −1 where a model is wrong or abstains; at each radius the best model on the images where `choosing`
    is true is to be reported on the others.
    """
    radii = (0.25, 0.5, 1.0)
    for seed in (42, 77):  # without ties, and no two mistakes with the same answer
        random = np.random.default_rng(seed)
        radius = random.choice([-1.0, 0.25, 0.5, 0.75, 1.0, 1.25], (6, 60))
        choosing = random.random(60) < 0.4
        value = np.asarray(answer(function, radius.copy(), radii, choosing.copy()), float)
        if value.shape != (3,):
            raise Wrong(f"Expected one number a radius, shape (3,), came shape {value.shape}.")
        faults = tuple((wrong, message) for message, wrong in _dishonest_rows(radius, radii, choosing).items())
        right = _row(radius, radii, choosing, ~choosing)
        otherwise = f"Six models, 60 images: expected {right.round(2).tolist()}, came {value.round(2).tolist()}."
        compare(value, right, faults, otherwise, same=within(1e-5, 1e-8))
    passed("honest_row: the winner of each radius, counted on images that had no say in its choice.")


def _row(radius: np.ndarray, radii, chosen_on: np.ndarray, reported_on: np.ndarray) -> np.ndarray:
    certified = radius[:, :, None] >= np.array(radii)  # (models, images, radii)
    winner = certified[:, chosen_on].mean(1).argmax(0)
    return 100 * certified[:, reported_on].mean(1)[winner, range(len(radii))]


def _dishonest_rows(radius: np.ndarray, radii, choosing: np.ndarray) -> dict[str, np.ndarray]:
    everything = np.ones_like(choosing)
    shares = (radius[:, :, None] >= np.array(radii))[:, choosing].mean(1)
    right = _row(radius, radii, choosing, ~choosing)
    return {
        "This is a share: the table is in %.": right / 100,
        "Reported on the images that chose the winner: that is the envelope as both texts print it.": _row(
            radius, radii, choosing, choosing
        ),
        "Reported on all images: those that chose the winner must not count.": _row(
            radius, radii, choosing, everything
        ),
        "Chosen on the images that report: the choice belongs to `choosing`.": _row(
            radius, radii, ~choosing, ~choosing
        ),
        "Chosen on all images: those that report had a say.": _row(radius, radii, everything, ~choosing),
        "The two parts are exchanged: chosen on the others, reported on `choosing`.": _row(
            radius, radii, ~choosing, choosing
        ),
        "One model for all radii: the winner may change at every radius.": 100
        * (radius[shares.sum(1).argmax()][:, None] >= np.array(radii))[~choosing].mean(0),
        "A radius of exactly r is left out: the tables count radius ≥ r.": _row(
            radius - 1e-6, radii, choosing, ~choosing
        ),
        "Divided by all images: the reporting ones are fewer.": right * (~choosing).mean(),
    }


# -- exercise 4: ACR -------------------------------------------------------------------------


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


# -- exercise 3: what a cell is worth --------------------------------------------------------


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
