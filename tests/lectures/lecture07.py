"""Answers to notebook 07, right and wrong: certified accuracy, rows, ACR, intervals."""

import numpy as np
from scipy.stats import beta

from lectures.exercise import Exercise
from rslab.lectures.lecture07 import checks

# -- exercises -----------------------------------------------------------------------------------


def mean(condition):
    return 100 * np.mean(condition)


ACCURACY = {
    "a share: the table is in %": lambda y, p, R, r: np.mean((p == y) & (R >= r)),
    "wrong prediction is counted": lambda y, p, R, r: mean((p >= 0) & (R >= r)),
    "correct images only": lambda y, p, R, r: mean(R[p == y] >= r),
    "that got a class": lambda y, p, R, r: 100 * np.sum((p == y) & (R >= r)) / np.sum(p >= 0),
    "exactly r is left out": lambda y, p, R, r: mean((p == y) & (R > r)),
    "whatever the radius": lambda y, p, R, r: mean(p == y),
    "One number is expected": lambda y, p, R, r: R,
}


def row(chosen="choosing", reported="others", scale=100, one=False, strict=False, all_images=False):
    def answer(radius, radii, choosing):
        parts = {"choosing": choosing, "others": ~choosing, "all": np.ones_like(choosing)}
        shares = []
        for r in radii:
            certified = radius > r if strict else radius >= r
            ranked = (
                sum((radius >= r)[:, choosing].mean(1) for r in radii) if one else certified[:, parts[chosen]].mean(1)
            )
            counted = certified[ranked.argmax(), parts[reported]]
            shares.append(counted.sum() / (len(choosing) if all_images else len(counted)))
        return scale * np.array(shares)

    return answer


def loop(radius, radii, choosing):
    """Without NumPy's axes."""
    result = []
    for r in radii:
        best = max(radius, key=lambda model: sum(model[choosing] >= r))
        result.append(100 * sum(best[~choosing] >= r) / sum(~choosing))
    return result


ROW = {
    "a share: the table is in %": row(scale=1),
    "as both texts print it": row(reported="choosing"),
    "must not count": row(reported="all"),
    "belongs to `choosing`": row(chosen="others"),
    "had a say": row(chosen="all"),
    "exchanged": row(chosen="others", reported="choosing"),
    "may change at every radius": row(one=True),
    "exactly r is left out": row(strict=True),
    "the reporting ones are fewer": row(all_images=True),
    "one number a radius": lambda radius, radii, choosing: 50.0,
}


ACR = {
    "wrong prediction is counted": lambda y, p, R: R.mean(),
    "correct images only": lambda y, p, R: R[p == y].mean(),
    "that got a class": lambda y, p, R: R[p >= 0].mean(),
    "abstentions belong": lambda y, p, R: R[p == y].sum() / np.sum(p >= 0),
    "This is the sum": lambda y, p, R: R[p == y].sum(),
}


def ends(tail=0.025, scale=100, plus=1, guard=True):
    def answer(k, n):
        low = beta.ppf(tail, k, n - k + plus) if k or not guard else 0.0
        high = beta.ppf(1 - tail, k + plus, n - k) if k < n or not guard else 1.0
        return scale * low, scale * high

    return answer


def normal(k, n):
    p, half = k / n, 1.959963984540054 * np.sqrt(k / n * (1 - k / n) / n)
    return 100 * (p - half), 100 * (p + half)


INTERVAL = {
    "in %": ends(scale=1),
    "2.5 % on either side": ends(tail=0.05),
    "normal approximation": normal,
    "+ 1 is missing": ends(plus=0),
    "NaN": ends(guard=False),
    "exchanged": lambda k, n: ends()(k, n)[::-1],
    "Two numbers": lambda k, n: 0.5,
}

EXERCISES = (
    Exercise(checks.certified_accuracy, (lambda y, p, R, r: mean((p == y) & (R >= r)),), ACCURACY),
    Exercise(checks.honest_row, (row(), loop), ROW),
    Exercise(checks.acr, (lambda y, p, R: np.mean(R * (p == y)),), ACR),
    Exercise(checks.cell_interval, (ends(),), INTERVAL),
)
