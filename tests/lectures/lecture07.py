"""Answers to notebook 07, right and wrong: certified accuracy, envelopes, ACR, intervals."""

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


ENVELOPE = {
    "over the radii": lambda a: a.max(1),
    "largest sum": lambda a: a[a.sum(1).argmax()],
    "best at radius 0": lambda a: a[0],
    "mean over models": lambda a: a.mean(0),
    "not argmax": lambda a: a.argmax(0),
    "not min": lambda a: a.min(0),
    "one number a radius": lambda a: a.max(),
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
    Exercise(checks.envelope, (lambda a: a.max(axis=0),), ENVELOPE),
    Exercise(checks.acr, (lambda y, p, R: np.mean(R * (p == y)),), ACR),
    Exercise(checks.cell_interval, (ends(),), INTERVAL),
)
