"""Answers to notebook 08, right and wrong: looking early, radii in order, ℓ∞ through ℓ2, six false certificates."""

import math

import numpy as np
from scipy.stats import beta, norm

from lectures.exercise import Exercise
from rslab.lectures.lecture08 import breakit, checks
from rslab.lectures.lecture08.breakit import ABSTAIN, HALF_SPACE, THREE, Line, Plane, certify_best, claim, lower, votes

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

# -- six false certificates: how they are broken, and mended --------------------------------------

INTERVAL = Line((-0.45, 0.45), (0, 1, 0))


def always(value):
    return lambda *arguments: value


SUITED = {
    "expected a Line": always((1, 0.05, 0.1)),
    "Return (f, x, moved)": always((INTERVAL, 0.05)),
    "nothing is promised about x′": always((INTERVAL, 0.05, 0.5)),
    "With one cut every σ": always((HALF_SPACE, 0.5, 0.1)),
    "Look for a place": always((INTERVAL, 0.05, 0.04)),
    "increasing numbers": lambda: (Line((1, 0), (0, 1, 0)), 0.0, 0.1),
}


def in_cells(radius):
    def answer(f, x, rule):
        prediction, whole, _ = breakit.exact(f, x, rule.sigma(x))
        return prediction, radius(whole, rule.distance(x))

    return answer


IN_CELLS = {
    "beyond the edge of the cell": in_cells(lambda whole, reach: whole),
    "g at this σ must keep its class": in_cells(lambda whole, reach: reach),
    "σ was chosen anew": lambda f, x, rule: breakit.certify_suited(f, x)[:2],
    "of no use": always((ABSTAIN, 0.0)),
    "The class of g": lambda f, x, rule: (2, in_cells(min)(f, x, rule)[1]),
}

BEST = {
    "beyond what 1,000 votes can ever claim": always((HALF_SPACE, 3.0)),
    "expected a number": always((HALF_SPACE, "near")),
}


def best_of(level=3, reuse=False):
    def answer(f, x, n, alpha, rng):
        found = []
        for sigma in THREE:
            first = votes(f, x, sigma, n if reuse else 100, rng)
            chosen = int(first.argmax())
            count = first[chosen] if reuse else votes(f, x, sigma, n, rng)[chosen]
            found.append(claim(chosen, lower(int(count), n, alpha / level), sigma))
        return max(found, key=lambda each: each[1])

    return answer


def chosen_first(f, x, n, alpha, rng):
    """One σ by the first votes, and one bound for it."""
    first = {sigma: votes(f, x, sigma, 100, rng) for sigma in THREE}
    sigma = max(THREE, key=lambda s: s * norm.ppf(min(first[s].max() / 100, 0.97)))
    chosen = int(first[sigma].argmax())
    return claim(chosen, lower(int(votes(f, x, sigma, n, rng)[chosen]), n, alpha), sigma)


MEND_BEST = {
    "Still false too often": certify_best,
    "Three chances at α": best_of(level=2),
    "votes that chose": best_of(level=3, reuse=True),  # the class, and the bound: 6 chances
    "of no use": always((ABSTAIN, 0.0, 0.5)),
    "expected one of": always((1, 0.1, 0.3)),
    "expected 0, 1 or ABSTAIN": always((7, 0.1, 0.5)),
}

ONCE = {
    "either class may come out on top": always((HALF_SPACE, 0.25)),
    "Return (f, x)": always(0.0),
}


def fresh(f, x, n, alpha, rng, sigma=0.5):
    chosen = int(votes(f, x, sigma, 100, rng).argmax())
    return claim(chosen, lower(int(votes(f, x, sigma, n, rng)[chosen]), n, alpha), sigma)


def halved(f, x, n, alpha, rng):
    return breakit.certify_once(f, x, n, alpha / 2, rng)


def pooled(f, x, n, alpha, rng, sigma=0.5):
    first, then = votes(f, x, sigma, 500, rng), votes(f, x, sigma, n, rng)
    chosen = int(first.argmax())
    return claim(chosen, lower(int((first + then)[chosen]), n + 500, alpha), sigma)


MEND_ONCE = {
    "Still false too often": breakit.certify_once,
    "Votes that chose the class": pooled,
    "of no use": always((ABSTAIN, 0.0, 0.5)),
    "Return a certificate": always((1, 0.2)),
}

SOON = {
    "is true there": always((HALF_SPACE, 0.5, range(10, 1001, 10))),
    "come nearer to it": always((HALF_SPACE, 0.3, range(10, 1001, 10))),
    "look more often": always((HALF_SPACE, 0.499, (1000,))),
    "expected increasing": always((HALF_SPACE, 0.499, (100, 100))),
    "are enough": always((HALF_SPACE, 0.499, range(1, 1001))),
}


def spending(level=lambda alpha, k: alpha / (k * (k + 1)), whole=False):
    def answer(f, x, radius, looks, alpha, rng, sigma=0.5):
        chosen = int(votes(f, x, sigma, 100, rng).argmax())
        count = taken = 0
        for k, look in enumerate(list(looks) if whole else looks, 1):
            count, taken = count + int(votes(f, x, sigma, look - taken, rng)[chosen]), look
            if lower(count, taken, level(alpha, k)) > norm.cdf(radius / sigma):
                return chosen, radius, sigma
        return ABSTAIN, 0.0, sigma

    return answer


MEND_SOON = {
    "Still false too often": breakit.certify_soon,
    "1 + ½ + ⅓": spending(lambda alpha, k: alpha / k),
    "of no use": always((ABSTAIN, 0.0, 0.5)),
    "stop at the first": spending(lambda alpha, k: alpha / 10, whole=True),
    "has no len": lambda f, x, radius, looks, alpha, rng: len(looks),
}

UNEVEN = {
    "normalise": (Plane((1, 0), 0.0), (0.6, 0.5), (0.45, 0.5)),
    "grey levels": (Plane((1, 0), 0.47), (0.451, 0.5), (0.449, 0.5)),
    "standardise": (Plane((1, -1), 0.0), (0.51, 0.5), (0.5, 0.51)),
}
PREPARED = {
    "Clipping moves no two images apart": always(UNEVEN | {"clip": (Plane((1, 0), 0.5), (0.6, 0.5), (0.4, 0.5))}),
    "Still to find: standardise": lambda: {name: UNEVEN[name] for name in ("normalise", "grey levels")},
    "nothing is promised": lambda: UNEVEN | {"normalise": (Plane((1, 0), 0.0), (0.6, 0.5), (0.1, 0.5))},
    "both images are answered": lambda: UNEVEN | {"grey levels": (Plane((1, 0), 0.5), (0.71, 0.5), (0.69, 0.5))},
    "expected a Plane": lambda: {"standardise": (HALF_SPACE, (0.5, 0.5), (0.4, 0.5))},
    "the two pixels": lambda: {"standardise": (Plane((1, 0), 0.5), 0.5, 0.4)},
    "expected one of clip": lambda: {"blur": UNEVEN["normalise"]},
    "not both 0": lambda: {"normalise": (Plane((0, 0), 0.0), (0.6, 0.5), (0.45, 0.5))},
}


def raw(radius):
    def answer(f, x, prepare):
        prediction, whole = breakit.certify_prepared(f, x, prepare)
        return prediction, radius(whole, prepare.stretch, prepare.jump)

    return answer


MEND_PREPARED = {
    "radius of the prepared image": raw(lambda whole, stretch, jump: whole),
    "jump is missing": raw(lambda whole, stretch, jump: whole / stretch),
    "stretch is missing": raw(lambda whole, stretch, jump: max(whole - jump, 0.0)),
    "not below 0": raw(lambda whole, stretch, jump: (whole - jump) / stretch),
    "of no use": always((ABSTAIN, 0.0)),
}

BATCH = {
    "certificates of x reach x′": always((Line((-5.0,), (0, 1)), 0.1, -3.0)),
    "When does the wrapper exchange": always((Line((-5.0,), (0, 1)), 0.2, 0.1)),
    "expected a Line": always((breakit.Exposed(HALF_SPACE), 0.2, 0.1)),
}


def one_by_one(f, x, n, alpha, rng):
    return fresh(lambda points: np.concatenate([f(points[i : i + 1]) for i in range(len(points))]), x, n, alpha, rng)


def refusing(f, x, n, alpha, rng, sigma=0.5):
    points = x + sigma * rng.standard_normal(100)
    if (np.concatenate([f(points[i : i + 1]) for i in range(100)]) != f(points)).any():
        return ABSTAIN, 0.0, sigma
    return fresh(f, x, n, alpha, rng)


def in_fours(f, x, n, alpha, rng):
    return fresh(lambda points: np.concatenate([f(part) for part in np.array_split(points, 4)]), x, n, alpha, rng)


MEND_BATCH = {
    "Still false too often": breakit.certify_batch,
    "Ask f for one copy at a time": in_fours,
    "of no use": always((ABSTAIN, 0.0, 0.5)),
}

EXERCISES = (
    Exercise(checks.early_stop, (stopping(),), STOP),
    Exercise(checks.ordered, (ordered,), ORDERED),
    Exercise(checks.needed_probability, (needed_probability,), NEEDED),
    Exercise(checks.counterexample_suited, (always((INTERVAL, 0.05, 0.1)),), SUITED),
    Exercise(checks.mend_suited, (in_cells(min),), IN_CELLS),
    Exercise(checks.counterexample_best, (always((HALF_SPACE, 0.25)), always((HALF_SPACE, 0.0))), BEST),
    Exercise(checks.mend_best, (best_of(), chosen_first), MEND_BEST),
    Exercise(checks.counterexample_once, (always((HALF_SPACE, 0.0)),), ONCE),
    Exercise(checks.mend_once, (fresh, halved), MEND_ONCE),
    Exercise(checks.counterexample_soon, (always((HALF_SPACE, 0.499, range(10, 1001, 10))),), SOON),
    Exercise(checks.mend_soon, (spending(), spending(lambda alpha, k: alpha / 2**k)), MEND_SOON),
    Exercise(checks.counterexample_prepared, (always(UNEVEN),), PREPARED),
    Exercise(
        checks.mend_prepared, (raw(lambda whole, stretch, jump: max((whole - jump) / stretch, 0.0)),), MEND_PREPARED
    ),
    Exercise(checks.counterexample_batch, (always((Line((-5.0,), (0, 1)), 0.1, -0.1)),), BATCH),
    Exercise(checks.mend_batch, (one_by_one, refusing), MEND_BATCH),
)
