"""Answers to notebook 04, right and wrong: the warm-up radius, the scaling step, the worst half-space and region."""

import numpy as np
from scipy.optimize import linprog
from scipy.stats import norm

from lectures.exercise import Exercise
from rslab.lectures.lecture04 import checks
from rslab.lectures.lecture04.regions import fill

# -- exercise 1 ---------------------------------------------------------------------------------


def warm_up_radius(p_a, p_b, sigma):
    lipschitz = 1 / (sigma * np.sqrt(2 * np.pi))
    return (p_a - p_b) / (2 * lipschitz)


WARM_UP = {
    "h − ½": lambda p_a, p_b, sigma: sigma * np.sqrt(np.pi / 8) * (p_a - p_b),
    "B can rise": lambda p_a, p_b, sigma: sigma * np.sqrt(2 * np.pi) * (p_a - p_b),
    "as printed": lambda p_a, p_b, sigma: np.sqrt(1 / (2 * sigma**2)) * (p_a - p_b),
    "divided by 2L": lambda p_a, p_b, sigma: (p_a - p_b) / 2 / (sigma * np.sqrt(2 * np.pi)),
    "σ is missing": lambda p_a, p_b, sigma: np.sqrt(np.pi / 2) * (p_a - p_b),
    "main theorem": lambda p_a, p_b, sigma: sigma / 2 * (norm.ppf(p_a) - norm.ppf(p_b)),
    "p_b is missing": lambda p_a, p_b, sigma: sigma * np.sqrt(np.pi / 2) * p_a,
    "expected (p_a − p_b) / 2L": lambda p_a, p_b, sigma: 0.1,
}


# -- exercise 2 ---------------------------------------------------------------------------------


def smooth(smooth_unit, h, x, sigma):
    return smooth_unit(lambda z: h(sigma * z), x / sigma)


SCALING = {
    "as printed": lambda unit, h, x, sigma: unit(lambda z: h(z / sigma), sigma * x),
    "h̃ is right, the point is not": lambda unit, h, x, sigma: unit(lambda z: h(sigma * z), sigma * x),
    "was not rescaled": lambda unit, h, x, sigma: unit(lambda z: h(sigma * z), x),
    "The point is right, h̃": lambda unit, h, x, sigma: unit(lambda z: h(z / sigma), x / sigma),
    "neither h nor the point": lambda unit, h, x, sigma: unit(h, x),
    "no factor σ": lambda unit, h, x, sigma: sigma * unit(lambda z: h(sigma * z), x / sigma),
    "not a number": lambda unit, h, x, sigma: unit(0.5, x / sigma),
}


# -- exercise 3 ---------------------------------------------------------------------------------


def half(edge=lambda p, s, n: s * n * norm.ppf(p), inside=lambda value, edge: value <= edge, centre=lambda x, d: x):
    def answer(x, delta, p_a, sigma):
        limit = edge(p_a, sigma, np.linalg.norm(delta))
        return lambda z: inside((z - centre(x, delta)) @ delta, limit)

    return answer


WORST = {
    "replace each ...": lambda x, delta, p_a, sigma: lambda z: ...,
    "Return a function": lambda x, delta, p_a, sigma: 0.5,
    "complement": half(inside=lambda value, edge: value > edge),
    "wrong side": half(inside=lambda value, edge: value >= -edge),
    "‖δ‖ is missing": half(edge=lambda p, s, n: s * norm.ppf(p)),
    "σ is missing at the edge": half(edge=lambda p, s, n: n * norm.ppf(p)),
    "no place on the line": half(edge=lambda p, s, n: s * n * p),
    "not norm.cdf": half(edge=lambda p, s, n: s * n * norm.cdf(p)),
    "Not centred": half(centre=lambda x, delta: 0 * x),
    "Centred at x + δ": half(centre=lambda x, delta: x + delta),
    "expected one answer a point": lambda x, delta, p_a, sigma: lambda z: z > 0,
}

# -- exercise 4 ---------------------------------------------------------------------------------


def worst_region(at_x, at_moved, p_a):
    ratio = np.divide(at_moved, at_x, out=np.full(len(at_x), np.inf), where=at_x > 0)
    f, missing = np.zeros(len(at_x)), p_a
    for cell in np.argsort(ratio):
        if at_x[cell] > 0:
            f[cell] = min(1.0, max(missing, 0.0) / at_x[cell])
            missing -= f[cell] * at_x[cell]
    return f


def by_programming(at_x, at_moved, p_a):
    """The same as a linear programme: it does not know the theorem."""
    f = linprog(at_moved, A_eq=at_x[None], b_eq=[p_a], bounds=(0, 1)).x
    return np.where(at_x > 0, f, 0)


def taken_by(key, whole=None, share=lambda p: p):
    """Cells by a key until p_a is held; `whole` rounds the part of the last cell."""

    def answer(at_x, at_moved, p_a):
        with np.errstate(divide="ignore", invalid="ignore"):
            order = np.argsort(key(at_x, at_moved), kind="stable")
        f = fill(order, at_x, share(p_a))
        return whole(f) if whole else f

    return answer


def ratio(at_x, at_moved):
    return np.where(at_x > 0, at_moved / at_x, np.inf)


def without_a_look(at_x, at_moved, p_a):
    f = worst_region(at_x, at_moved, p_a)
    f[at_x == 0] = 1
    return f


WORST_REGION = {
    "cheapest first": taken_by(lambda at_x, at_moved: at_moved),
    "largest first": taken_by(lambda at_x, at_moved: -at_x),
    "turned over": taken_by(lambda at_x, at_moved: -ratio(at_x, at_moved)),
    "price minus gain": taken_by(lambda at_x, at_moved: at_moved - at_x),
    "from left to right": taken_by(lambda at_x, at_moved: np.arange(len(at_x))),
    "only a part of the last cell": taken_by(ratio, whole=np.ceil),
    "a part of the next cell": taken_by(ratio, whole=np.floor),
    "complement": taken_by(lambda at_x, at_moved: -ratio(at_x, at_moved), share=lambda p: 1 - p),
    "NaN": lambda at_x, at_moved, p_a: at_x * np.nan,
    "one number per cell": lambda at_x, at_moved, p_a: p_a,
    "must lie in [0, 1]": lambda at_x, at_moved, p_a: 2 * worst_region(at_x, at_moved, p_a),
    "without mass at x": without_a_look,
    "expected exactly p_A": lambda at_x, at_moved, p_a: np.full(len(at_x), 0.3),
    "there is one that keeps": lambda at_x, at_moved, p_a: np.full(len(at_x), p_a),
}

EXERCISES = (
    Exercise(checks.warm_up, (warm_up_radius,), WARM_UP),
    Exercise(checks.scaling, (smooth,), SCALING),
    Exercise(checks.worst_case, (half(),), WORST),
    Exercise(checks.worst_region, (worst_region, by_programming), WORST_REGION),
)
