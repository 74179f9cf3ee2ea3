"""Answers to notebook 04, right and wrong: the scaling step, the ruler, the worst half-space, the worst region."""

import numpy as np
from scipy.integrate import quad
from scipy.optimize import linprog
from scipy.stats import norm

from lectures.exercise import Exercise
from rslab.lectures.lecture04 import checks
from rslab.lectures.lecture04.regions import fill

# -- exercise 1 ---------------------------------------------------------------------------------


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


# -- exercise 2 ---------------------------------------------------------------------------------


def ruler(ceiling, p):
    return quad(lambda q: 1 / ceiling(q), 0.5, p)[0]


def ruler_in_steps(ceiling, p, integrand=lambda c: 1 / c, start=0.5):
    edges = np.linspace(start, p, 4001)
    middle = (edges[1:] + edges[:-1]) / 2
    return float(np.mean(integrand(ceiling(middle))) * (p - start))


RULER = {
    "The ceiling itself was summed": lambda c, p: quad(c, 0.5, p)[0],
    "The sign is turned": lambda c, p: quad(lambda q: 1 / c(q), p, 0.5)[0],
    "This is the ceiling at p": lambda c, p: c(p),
    "slope of the ruler at p": lambda c, p: 1 / c(p),
    "not the same all the way": lambda c, p: (p - 0.5) / c(p),
    "so it is negative below ½": lambda c, p: abs(ruler(c, p)),
    "ruler of the Gaussian's ceiling only": lambda c, p: norm.ppf(p),
    "it ignores the ceiling": lambda c, p: p - 0.5,
    "begin at ½": lambda c, p: ruler_in_steps(c, p, start=1e-9),
    "outside": lambda c, p: c(0.0),
    "returns two numbers": lambda c, p: quad(lambda q: 1 / c(q), 0.5, p),
    "expected m(p)": lambda c, p: 7.0,
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
    Exercise(checks.scaling, (smooth,), SCALING),
    Exercise(checks.ruler, (ruler, ruler_in_steps), RULER),
    Exercise(checks.worst_case, (half(),), WORST),
    Exercise(checks.worst_region, (worst_region, by_programming), WORST_REGION),
)
