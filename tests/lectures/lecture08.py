"""Answers to notebook 08, right and wrong: looking early, several radii from one run, ℓ∞ through ℓ2."""

import math

import numpy as np
from scipy.stats import beta, norm

from lectures.exercise import Exercise
from rslab.lectures.lecture08 import checks

# -- the exercises -----------------------------------------------------------------------------


def stopping(level=lambda alpha, k, size: alpha / size, new=False, bound=True, last=False):
    def answer(counts, looks, threshold, alpha):
        if new:
            counts, looks = np.diff(counts, prepend=0).tolist(), np.diff(looks, prepend=0).tolist()
        for k, (count, n) in enumerate(zip(counts, looks, strict=True)):
            lower = beta.ppf(level(alpha, k, len(looks)), count, n - count + 1) if bound and count else count / n
            if lower > threshold and (not last or k == len(looks) - 1):
                return k
        return -1

    return answer


STOP = {
    "Return the number of a look": lambda *arguments: True,
    "spends α at every look": stopping(level=lambda alpha, k, size: alpha),
    "number of the look": stopping(level=lambda alpha, k, size: alpha / (k + 1)),
    "cumulative already": stopping(new=True),
    "it needs the lower bound": stopping(bound=False),
    "stop at the first": stopping(level=lambda alpha, k, size: alpha, last=True),
}


def ordered(radii, passed):
    number = list(passed).index(False) if False in passed else len(passed)
    return radii[number - 1] if number else 0.0


ORDERED = {
    "largest radius that passed": lambda radii, passed: max(
        (r for r, ok in zip(radii, passed, strict=True) if ok), default=0.0
    ),
    "how many passed": lambda radii, passed: radii[sum(passed) - 1] if any(passed) else 0.0,
    "one step too far": lambda radii, passed: radii[min([*passed, False].index(False), len(radii) - 1)],
    "go on while they pass": lambda radii, passed: min(
        (r for r, ok in zip(radii, passed, strict=True) if ok), default=0.0
    ),
    "not a radius": lambda radii, passed: [*passed, False].index(False),
}


def needed_probability(epsilon, d, sigma):
    return norm.cdf(epsilon * math.sqrt(d) / sigma)


NEEDED = {
    "d was left out": lambda epsilon, d, sigma: norm.cdf(epsilon / sigma),
    "must reach its corners": lambda epsilon, d, sigma: norm.cdf(epsilon / math.sqrt(d) / sigma),
    "d in place of √d": lambda epsilon, d, sigma: norm.cdf(epsilon * d / sigma),
    "no division by 255": lambda epsilon, d, sigma: needed_probability(epsilon / 255, d, sigma),
    "not yet the probability": lambda epsilon, d, sigma: epsilon * math.sqrt(d),
    "one Φ is missing": lambda epsilon, d, sigma: epsilon * math.sqrt(d) / sigma,
    "σ is missing": lambda epsilon, d, sigma: needed_probability(epsilon, d, 1.0),
    "wrong side": lambda epsilon, d, sigma: needed_probability(epsilon, d, 1 / sigma),
}

EXERCISES = (
    Exercise(checks.early_stop, (stopping(),), STOP),
    Exercise(checks.ordered, (ordered,), ORDERED),
    Exercise(checks.needed_probability, (needed_probability,), NEEDED),
)
